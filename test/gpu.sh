#!/usr/bin/env bash
# What only a GPU can show, in ten minutes, most valuable first. Needs CMake, a CUDA toolkit, a GPU; without internet also deps/
# (make deps-bundle). Ends with a table; exit status 1 if a part failed, 77 where there is no GPU.
#   test/gpu.sh              everything
#   test/gpu.sh --quick      build, kernels, golden files, the needle task, one size of attention
#   test/gpu.sh --simulate   this script itself, tried on the simulated GPU of build/ with tiny sizes
# Everything that was printed is in log.txt, the table in table.txt, both in $OUT (out/gpu). MOBA_GPU_SECONDS (570): parts that do
# not fit any more are SKIPPED. MOBA_BUILD (build/gpu): where it builds.
set -u
cd "$(dirname "$0")/.." || exit 2
quick=0 simulate=0
for option in "$@"; do
    case $option in
        --quick) quick=1 ;;
        --simulate) simulate=1 ;;
        *) sed -n '2,8s/^# //p' "$0"; exit 2 ;;
    esac
done
seconds=${MOBA_GPU_SECONDS:-570}
if [ $simulate = 1 ]; then seconds=1000000; fi # no limits: a slow machine is no failure
out=${OUT:-out/gpu}
build=${MOBA_BUILD:-$([ $simulate = 1 ] && echo build || echo build/gpu)}
work=$build/gpu_script # models, and each part's own output
rm -rf "$work"
mkdir -p "$out" "$work"
log=$out/log.txt table=$out/table.txt
: > "$log"
: > "$table"
failed=0

# ---- the frame ----

# row NAME VALUE WANTED ok|FAIL|SKIPPED
row() {
    printf '%-44s %22s  %-18s %s\n' "$1" "$2" "$3" "$4" | tee -a "$table"
    if [ "$4" = FAIL ]; then failed=1; fi
}
# part NAME LIMIT COMMAND...: runs it under its limit; its output goes to the log and to $work/NAME.txt, its exit status to $status
part() {
    local name=$1 limit=$2 left=$((seconds - SECONDS)) begin=$SECONDS
    shift 2
    if [ $left -lt 5 ]; then
        : > "$work/$name.txt"
        status=skipped
        return
    fi
    if [ $simulate = 1 ]; then limit=$left; fi
    timeout -k 5 $((limit < left ? limit : left)) "$@" > "$work/$name.txt" 2>&1
    status=$?
    took=$((SECONDS - begin))
    { echo "=== $name: exit status $status after $took s: $*"; cat "$work/$name.txt"; echo; } >> "$log"
}
# check NAME LIMIT COMMAND...: a part that is right when it exits with 0
check() {
    part "$@"
    case $status in
        0) row "$1" "$took s" "exit status 0" ok ;;
        skipped) row "$1" "-" "no time left" SKIPPED ;;
        77) row "$1" "-" "nothing to run on" SKIPPED ;;
        124 | 137) row "$1" "stopped at $took s" "exit status 0" FAIL ;;
        *)
            row "$1" "exit status $status" "exit status 0" FAIL
            tail -n 5 "$work/$1.txt" | cut -c 1-150
            ;;
    esac
}
# figure NAME VALUE [WANTED CONDITION]: CONDITION in awk, of v; an empty value is a failure. After a part that was skipped: SKIPPED.
figure() {
    local verdict=ok
    if [ "$status" = skipped ]; then
        verdict=SKIPPED
    elif [ -z "$2" ] || ! awk -v v="${2%% *}" "BEGIN { exit !(${4:-1}) }"; then
        verdict=FAIL
    fi
    row "$1" "${2:--}" "${3:--}" $verdict
}
# The first number behind "KEY": in a JSON file.
number() { grep -om1 "\"$2\": *[-+.0-9eE]*" "$1" 2> /dev/null | sed 's/.*: *//'; }

# ---- build ----

if [ $simulate = 1 ]; then
    moba=${MOBA_PROGRAM:-$build/simt/moba} kernels=$build/test/kernel_test golden=$build/test/golden_test_simt
else
    if ! command -v nvidia-smi > /dev/null || ! nvidia-smi > /dev/null; then
        echo "SKIPPED: no GPU"
        exit 77
    fi
    if ! command -v nvcc > /dev/null; then export PATH=$PATH:/usr/local/cuda/bin; fi
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem --format=csv | tee -a "$log"
    moba=$build/moba kernels=$build/test/kernel_test_gpu golden=$build/test/golden_test unit=$build/test/unit_test
    generator=
    if command -v ninja > /dev/null; then generator=-GNinja; fi
    check configure 60 cmake -S . -B "$build" $generator -DMOBA_CUDA=ON -DMOBA_BLAS=OFF
    targets="moba kernel_test_gpu golden_test curand_test"
    if [ $quick = 0 ]; then targets+=" unit_test"; fi
    check build 300 cmake --build "$build" -j "$(nproc)" --target $targets
fi

# ---- right? ----

filter=
if [ $simulate = 1 ]; then filter=--gtest_filter=Kernels.Norm:Kernels.Decode; fi
check kernel_test 90 "$kernels" $filter
if [ $simulate = 0 ]; then check "tensors of 2^31 elements" 60 env MOBA_LONG=1 "$kernels" --gtest_filter='KernelsLarge*'; fi
if [ $simulate = 0 ]; then
    check curand_test 30 "$build/test/curand_test"
    figure "Philox is cuRAND's, on the GPU" "$(grep -c 'OK ] Curand.SameBitsOnTheGpu' "$work/curand_test.txt")" "1" "v == 1"
fi
if [ -d deps/golden ]; then export MOBA_GOLDEN_DIR=deps/golden; fi
check golden_test 60 "$golden"
figure "golden files, results compared on the GPU" "$(grep -c ' gpu ' "$work/golden_test.txt")" "> 0" "v > 0"

# 20 losses in fp32, CPU and GPU; then the needle task whole, twice in each precision
first=(--steps 20 --eval-every 0 --log-every 1)
task=(--config train/needle.json)
eval=()
if [ $simulate = 1 ]; then
    first+=(--batch-size 2 --seq-len 32)
    task+=(--steps 3 --batch-size 1 --seq-len 32 --eval-samples 2 --hidden-size 32 --intermediate-size 32)
    eval=(--samples 1 --depths 2)
fi
for device in cpu gpu; do
    check "first 20 steps, $device" 60 "$moba" train --config train/needle.json --curriculum "" "${first[@]}" --device $device \
        --out "$work/first_$device"
done
losses() { grep -o '"loss":[^,}]*' "$work/first_$1/log.jsonl" 2> /dev/null | cut -d: -f2; }
figure "20 losses, GPU against CPU" "$(paste <(losses cpu) <(losses gpu) 2> /dev/null |
    awk 'NF == 2 { d = ($2 - $1) / $1; d = d < 0 ? -d : d; if (!(d <= worst)) worst = d; n++ }
         END { if (n == 20) printf "%.1e", worst }')" "relative <= 1e-4" "v <= 1e-4"
train() { # NAME PRECISION
    check "train needle, $1" 60 "$moba" train "${task[@]}" --curriculum "${curriculum-32:8:128:600,64:4:64:300,128:4:64:400}" --device gpu \
        --precision "$2" --log-every 100 --out "$work/needle_$1"
}
bits() { sha256sum "$work/needle_$1/latest/model.safetensors" 2> /dev/null | cut -c 1-12; }
if [ $simulate = 1 ]; then curriculum=; fi
for precision in fp32 bf16; do
    train $precision $precision
    part "eval needle, $precision" 60 "$moba" eval --model "$work/needle_$precision" --device gpu --precision $precision "${eval[@]}" \
        --json "$work/eval_$precision.json"
    accuracy=$(grep -o 'accuracy [0-9.]*%' "$work/eval needle, $precision.txt" | tail -n 1 | tr -dc 0-9.)
    if [ $simulate = 1 ]; then
        figure "needle, accuracy in $precision" "${accuracy:+$accuracy %}" "(hardly trained)"
    else
        figure "needle, accuracy in $precision" "${accuracy:+$accuracy %}" ">= 99 %" "v >= 99"
    fi
    train "$precision again" $precision
    one=$(bits $precision) two=$(bits "$precision again")
    figure "the same bits again, $precision" "${two:--}" "${one:-a checkpoint}" "\"$one\" != \"\" && v == \"$one\""
done

# ---- fast? ----

# Attention, forward and backward: MoBA, our full attention, PyTorch's. B=2 H=16 D=128 S=128
python=
for p in python3 /opt/torch/.venv/bin/python3; do
    if [ -z "$python" ] && $p -c 'import torch; assert torch.cuda.is_available()' 2> /dev/null; then python=$p; fi
done
attention() { # PRECISION T K REPEATS [WANTED CONDITION]
    local name="attention $1 T=$2 K=$3" sizes=(--batch-size 2 --num-heads 16 --head-dim 128 --block-size 128)
    if [ $simulate = 1 ]; then sizes=(--batch-size 1 --num-heads 1 --head-dim 16 --block-size 16); fi
    local json="$work/$name.json"
    part "$name" 75 "$moba" bench attention --device gpu --precision "$1" --seq-len "$2" --top-k "$3" "${sizes[@]}" --repeats "$4" --json "$json"
    figure "$name: full / MoBA" "$(awk -v r="$(number "$json" ratio)" -v full="$(number "$json" full)" -v moba="$(number "$json" moba)" \
        'BEGIN { if (r) printf "%.2f (%.4g/%.4g ms)", r, full, moba }')" "${@:5}"
    if [ $simulate = 1 ] || [ "$3" != 8 ]; then return; fi
    if [ -z "$python" ]; then
        row "$name: PyTorch" "-" "no torch here" SKIPPED
        return
    fi
    part "PyTorch $1 T=$2" 60 "$python" test/sdpa.py "$1" "$2" "$4"
    figure "PyTorch $1 T=$2: forward + backward" "$(awk '/^total_ms/ { print $2 " ms" }' "$work/PyTorch $1 T=$2.txt")"
}
if [ $simulate = 1 ]; then
    attention fp32 128 2 1
    attention bf16 128 2 1 "> 0" "v > 0"
else
    attention bf16 8192 4 3 "> 1" "v > 1"
    attention bf16 8192 8 3
    if [ $quick = 0 ]; then
        attention bf16 65536 8 1
        attention fp32 8192 8 3
        attention bf16 32768 8 1
        attention fp32 32768 8 1
        attention bf16 16384 8 3
    fi
fi

bench() { # NAME OPTIONS...
    local name="bench $1"
    part "$name" 60 "$moba" bench "${@:2}" --device gpu --json "$work/$name.json"
    if [ "$status" != 0 ]; then
        if [ "$status" = skipped ]; then
            row "$name" "-" "no time left" SKIPPED
        else
            row "$name" "exit status $status" "exit status 0" FAIL
        fi
        return
    fi
    local ratio=$(number "$work/$name.json" ratio)
    if [ -n "$ratio" ]; then figure "$name: full / MoBA" "$(printf %.2f "$ratio")"; else row "$name" "$took s" "in log.txt" ok; fi
}
# ---- is memory used as it should be? ----

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2> /dev/null)
sanitize() { # TOOL LIMIT TESTS
    if [ -z "$sanitizer" ]; then
        row "compute-sanitizer $1" "-" "not here" SKIPPED
        return
    fi
    check "compute-sanitizer $1" "$2" "$sanitizer" --tool "$1" --error-exitcode 9 --print-limit 20 "$kernels" --gtest_filter="$3"
}
small='Kernels.Rope:Kernels.Norm:Kernels.ResidualNorm:Kernels.Loss:Kernels.KeyConv:Kernels.GateSpecialScores:Kernels.Linear:KernelsAttention.LargeScores:KernelsAttention.Full'

if [ $simulate = 1 ]; then
    bench "op, small" op --seq-len 32 --hidden-size 16 --num-heads 1 --head-dim 16 --repeats 1
    bench "step, small" step --precision bf16 --seq-len 48 --hidden-size 16 --num-heads 1 --num-layers 1 --block-size 16 --top-k 2 --repeats 1
    bench "decode, small" decode --seq-len 64 --hidden-size 16 --num-heads 1 --num-layers 1 --block-size 16 --top-k 2 --repeats 1
    sanitizer=
    sanitize memcheck 1 ''
elif [ $quick = 0 ]; then
    sanitize memcheck 90 '-Kernels.SortRows'
    sanitize racecheck 75 "$small"
    model="--num-layers 12 --hidden-size 768 --num-heads 12 --vocab-size 50304 --seq-len 8192 --batch-size 2 --repeats 3"
    bench "step bf16, 124M parameters, T=8192" step --precision bf16 $model --profile
    bench "op bf16" op --precision bf16 --seq-len 8192 --batch-size 2 --hidden-size 2048 --num-heads 16 --head-dim 128 --vocab-size 32000 --repeats 3
    bench "decode bf16, 65536 cached" decode --precision bf16 --seq-len 65536 --hidden-size 1024 --num-heads 8 --num-layers 4
    bench "step fp32, 124M parameters, T=8192" step --precision fp32 $model
    bench "op fp32" op --precision fp32 --seq-len 8192 --batch-size 2 --hidden-size 2048 --num-heads 16 --head-dim 128 --vocab-size 32000 --repeats 3
    sanitize synccheck 45 "$small"
    sanitize initcheck 45 "$small"
    check unit_test 120 "$unit"
fi

rm -rf "$work"/needle_* "$work"/first_*
echo
echo "$SECONDS s; log: $log"
printf '\n%-44s %22s  %-18s\n' name value wanted
cat "$table"
exit $failed
