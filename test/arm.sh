#!/usr/bin/env bash
# Tests the project on a 64-bit Arm processor: cross-compiled here and run by qemu, which emulates the
# processor. On an Arm machine nothing is emulated. Debian packages: g++-aarch64-linux-gnu qemu-user-static
# libcli11-dev nlohmann-json3-dev googletest.
#   test/arm.sh [FOLDER]      builds in FOLDER (build/arm)
# Runs the program (training, resume, evaluation), the unit tests of moba/, the golden files, and every kernel
# test in one order of threads. Compares the losses of a training with those of this machine. Exit status 77:
# SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/arm}
skip() {
    echo "SKIPPED: $1"
    exit 77
}
cross=() qemu=()
if [ "$(uname -m)" != aarch64 ]; then
    command -v aarch64-linux-gnu-g++ > /dev/null || skip "no aarch64-linux-gnu-g++ (Debian: g++-aarch64-linux-gnu)"
    program=$(command -v qemu-aarch64-static || command -v qemu-aarch64) || skip "no qemu-aarch64 (Debian: qemu-user-static)"
    qemu=("$program")
    export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu # where the Arm C++ library is
    cross=(-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DMOBA_NATIVE=OFF)
fi
failed=0
# step NAME COMMAND...: writes the output to a log; shows the last lines of a failure
step() {
    local begun=$SECONDS verdict=ok
    "${@:2}" > "$build/step.log" 2>&1 || { verdict=FAILED failed=1; tail -n 40 "$build/step.log"; }
    { echo "=== $*"; cat "$build/step.log"; } >> "$build/log.txt"
    printf '%-52s %5s s  %s\n' "$1" $((SECONDS - begun)) "$verdict"
    # if the build failed, nothing can be tested
    if [ $verdict = FAILED ] && [ ! -x "$build/moba" ]; then exit 1; fi
}

mkdir -p "$build"
: > "$build/log.txt"
# sources, because the installed packages contain libraries for this machine's processor
test/deps.sh "$build/deps" > /dev/null
step "configured" cmake -S . -B "$build" "${cross[@]}" -DMOBA_BLAS=OFF -DMOBA_CUDA=OFF -DMOBA_DEPS="$PWD/$build/deps" -DMOBA_STRICT=ON
step "built with $(${cross:+aarch64-linux-gnu-}g++ -dumpfullversion)" cmake --build "$build" -j "$(nproc)"

arm=("${qemu[@]}" "$build/moba")
train=(train --config train/configs/needle.json --curriculum "" --seq-len 64 --batch-size 4 --steps 20 --save-every 5 --eval-every 0
    --log-every 1 --device cpu)
cut_run() { # interrupts the run as Ctrl-C does, after the first checkpoint
    "${arm[@]}" "${train[@]}" --out "$build/run_cut" &
    local run=$!
    until [ -e "$build/run_cut/latest" ] || ! kill -0 $run; do sleep 0.05; done
    kill -INT $run && wait $run || return 1
    ! grep -q '"step":20,' "$build/run_cut/log.jsonl" || { echo "the run had ended before it was interrupted"; return 1; }
}
resume() {
    "${arm[@]}" train --resume --out "$build/run_cut" &&
        cmp "$build/run_whole/latest/model.safetensors" "$build/run_cut/latest/model.safetensors"
}
losses() { grep -o '"loss":[^,}]*' "$build/run_$1/log.jsonl" | cut -d: -f2; }
rm -rf "$build"/run_*
step "moba train" "${arm[@]}" "${train[@]}" --out "$build/run_whole"
step "moba train, interrupted" cut_run
step "moba train --resume, the same bits" resume
step "moba eval" "${arm[@]}" eval --model "$build/run_whole" --samples 2 --depths 2
step "moba sample" "${arm[@]}" sample --model "$build/run_whole"

# The unit tests that do not use train/: their suites, found in the sources.
suites=$(grep -LE '#include "(train/|test/(program|page_check)\.h)' test/test_*.cpp | grep -v test_kernels | xargs grep -hoE '^TEST(_F|_P)?\(\w+' |
    sed 's/.*(//' | sort -u | sed 's/$/.*/' | paste -sd:)
if [ ${#qemu[@]} -gt 0 ]; then
    # death tests start the program again without qemu
    suites+='-*DeathTest.*'
    printf '%-52s %7s  %s\n' "unit tests of moba/ that end the program" "" SKIPPED
fi
step "unit tests of moba/" "${qemu[@]}" "$build/test/unit_test" --gtest_filter="$suites"
step "golden files" "${qemu[@]}" "$build/test/golden_test"
step "golden files, simulated GPU" "${qemu[@]}" "$build/test/golden_test_simt"
step "kernel tests, threads forward" env SIMT_ORDER=forward "${qemu[@]}" "$build/test/kernel_test"
grep -h 'PASSED\|FAILED  \]' "$build/log.txt" || true

if [ -x build/moba ] && [ ${#cross[@]} -gt 0 ]; then
    step "the same training on $(uname -m)" build/moba "${train[@]}" --out "$build/run_here"
    paste <(losses here) <(losses whole) | awk '{ d = ($2 - $1) / $1; d = d < 0 ? -d : d; if (d > most) most = d; if (d == 0) same++ }
        END { printf "20 losses, Arm against this machine: %d equal, at most %.1e apart\n", same, most }'
fi
echo "arm.sh: $([ $failed = 0 ] && echo "everything passed" || echo FAILED) after $SECONDS s; $build/log.txt"
exit $failed
