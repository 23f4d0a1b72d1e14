#!/usr/bin/env bash
# Removes one __syncthreads or __syncwarp at a time from the kernels, and checks whether the kernel tests on
# the simulated GPU then fail. Prints "caught" or "MISSED" for each. Exit status 1 if one was missed: either
# the barrier is not needed, or a test is missing.
#   test/barriers.sh [BUILD, default build] [FILE...]     BUILD: a folder in which kernel_test has been built
# A __syncwarp near a shuffle only orders memory, because the shuffle itself synchronises the lanes. If no
# order of threads detects that it is missing, ThreadSanitizer is used, provided that kernel_test has been
# built with it (make tsan; TSAN=FOLDER, default build/tsan). Takes about half a minute for each barrier on
# two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(realpath "${1:-build}")
tsan=$(realpath "${TSAN:-build/tsan}")
shift || true
files=("$@")
if [ ${#files[@]} -eq 0 ]; then files=(moba/*.cu moba/*.cuh); fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
orders=(greedy-forward greedy-reverse forward reverse greedy-random:1)

# tests_of FILE: the tests that use the file
tests_of() {
    case $(basename "$1") in
        attention*) echo 'KernelsAttention.*' ;;
        gate*) echo 'Kernels.Gate*' ;;
        decode*) echo 'KernelsDecode*:Kernels.Decode*' ;;
        sort*) echo 'Kernels.Sort*:Kernels.PrefixSum*:Kernels.Gate*:Kernels.Embedding*' ;;
        *) echo '-KernelsAttention.*:KernelsModel.*:KernelsGraph.*:KernelsLarge.*' ;;
    esac
}
# run PROGRAM FILE: prints the order of threads that fails, if any
run() {
    local order
    for order in "${orders[@]}"; do
        if ! SIMT_ORDER=$order GOMP_SPINCOUNT=1000 timeout 1200 "$1" --gtest_fail_fast --gtest_brief=1 --gtest_filter="$(tests_of "$2")" > "$work/log" 2>&1; then
            echo "$order: $(grep -m1 -oE 'simt: [a-z ]*|ThreadSanitizer: [a-z ]*|\[  FAILED  \] [A-Za-z.]*' "$work/log" || echo 'ended')"
            return
        fi
    done
}
# compile BUILD SOURCE OBJECT: compiles as the build does, but uses the headers in $work/tree first
compile() {
    local command
    command=$(python3 - "$1/compile_commands.json" "$PWD/$2" "$work/tree" <<'PY'
import json, shlex, sys
for entry in json.load(open(sys.argv[1])):
    if entry["file"] == sys.argv[2] and "moba_kernels_simt" in entry.get("output", entry["command"]):
        words = shlex.split(entry["command"])
        rest = [w for i, w in enumerate(words) if i > 0 and w not in ("-o", "-c", entry["file"]) and words[i - 1] != "-o"]
        print(shlex.join([words[0], "-I" + sys.argv[3]] + rest))
        break
PY
    )
    (cd "$1" && eval "$command -o $3 -c $work/tree/$2")
}
# link BUILD OBJECTS...: links kernel_test with these objects instead of those of the library
link() {
    local build=$1
    shift
    (cd "$build/test" && eval "$(sed "s|-o kernel_test|-o $work/test $*|" CMakeFiles/kernel_test.dir/link.txt)")
}
# make_test BUILD FILE: builds kernel_test with the FILE in $work/tree
make_test() {
    local unit objects=()
    for unit in $(units_of "$2"); do
        objects+=("$work/$(basename "$unit").o")
        compile "$1" "$unit" "${objects[-1]}" || { echo "$2 does not compile"; exit 2; }
    done
    link "$1" "${objects[@]}" || { echo "$2 does not link"; exit 2; }
}
# the .cu files that include a file
units_of() {
    case $1 in
        *.cu) echo "$1" ;;
        *) grep -lE "#include \"$1\"" moba/*.cu ;;
    esac
}

missed=0 count=0
for file in "${files[@]}"; do
    lines=$(grep -nE '^ +__sync(threads|warp)\(' "$file" | cut -d: -f1 || true)
    [ -n "$lines" ] || continue
    failing=$(run "$build/test/kernel_test" "$file")
    if [ -n "$failing" ]; then
        echo "the tests fail as they are: $failing"
        exit 2
    fi
    for line in $lines; do
        rm -rf "$work/tree"
        mkdir -p "$work/tree"
        cp -r moba "$work/tree/moba"
        sed -i "${line}s|__sync|// __sync|" "$work/tree/$file"
        make_test "$build" "$file"
        caught=$(run "$work/test" "$file")
        count=$((count + 1))
        if [ -z "$caught" ] && [ -e "$tsan/test/kernel_test" ] && sed -n "${line}p" "$file" | grep -q __syncwarp; then
            make_test "$tsan" "$file"
            caught=$(export OMP_NUM_THREADS=1 TSAN_OPTIONS=halt_on_error=1; orders=(forward) && run "$work/test" "$file")
        fi
        if [ -n "$caught" ]; then
            echo "caught $file:$line by $caught"
        else
            echo "MISSED $file:$line $(sed -n "${line}p" "$file")"
            missed=$((missed + 1))
        fi
    done
done
echo "barriers.sh: $count taken out, $missed missed"
[ $missed -eq 0 ]
