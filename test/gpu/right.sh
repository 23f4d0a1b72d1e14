# Tier 1 of test/gpu.sh: the card, every kernel test, golden files, losses compared with the CPU.
# shellcheck shell=bash disable=SC2034,SC2154 # names that the other files use, or set

# ---- tests, each in a separate process ----

# outcome STATUS FILE: ok, skipped, hang (or $time_out), died or failed
outcome() {
    case $1 in
        0) if grep -q '^\[  SKIPPED \]' "$2"; then echo skipped; else echo ok; fi ;;
        77 | skipped) echo skipped ;;
        124 | 137) echo "${time_out:-hang}" ;;
        *) if grep -q '^\[  FAILED  \]' "$2"; then echo failed; else echo died; fi ;;
    esac
}
# each_test GROUP LIMIT FILTER COMMAND...: runs every test of a program that matches FILTER, with COMMAND
# --gtest_filter=TEST, $jobs at the same time. A finished test is added to the log, and gets a row if it did
# not succeed. $work/GROUP/outcomes has a line for each test: TEST OUTCOME STATUS.
each_test() {
    local group=$1 limit=$2 filter=$3 folder=$work/$1 begin=$SECONDS name rest settled=0
    shift 3
    mkdir -p "$folder"
    : > "$folder/outcomes"
    # the program is the last word of COMMAND
    "${!#}" --gtest_list_tests --gtest_filter="$filter" > "$folder/names.txt" 2>&1
    awk '/^[A-Za-z]/ { suite = $1 } /^  / && suite { print suite $1 }' "$folder/names.txt" > "$folder/names"
    while read -r name; do
        await $((jobs - 1)) "$@"
        rest=$(left)
        if [ "$rest" -lt 5 ]; then
            : > "$folder/$name.txt"
            echo "$name skipped -" >> "$folder/outcomes"
            continue
        fi
        (
            limited $((limit < rest ? limit : rest)) "$@" --gtest_filter="$name" > "$folder/$name.txt" 2>&1 < /dev/null
            status=$?
            case $status in 124 | 137) if [ "$limit" -ge "$rest" ]; then status=skipped; fi ;; esac
            echo "$name $(outcome $status "$folder/$name.txt") $status" >> "$folder/outcomes"
        ) &
    done < "$folder/names"
    await 0 "$@"
    took=$((SECONDS - begin)) status=0
}
# Waits until at most N tests are running.
await() { # N COMMAND...
    while [ "$(jobs -rp | wc -l)" -gt "$1" ]; do
        wait -n
        settle "${@:2}"
    done
    settle "${@:2}"
}
# Writes logs and rows of the tests that have finished since the last call. Uses variables of each_test.
settle() {
    local name how code
    while read -r name how code; do
        if [ "$name" = '' ]; then return; fi
        {
            echo "=== $group: $name: $*"
            first_of_it < "$folder/$name.txt"
            printf '=== exit status %s\n\n' "$code"
        } >> "$log"
        settled=$((settled + 1))
        case $how in
            hang) row "  $name" "no end in $limit s" "passes" FAIL ;;
            died) row "  $name" "died, exit status $code" "passes" FAIL ;;
            failed) row "  $name" "failed" "passes" FAIL ;;
            *) continue ;;
        esac
        note "$(telling "$folder/$name.txt" | head -n 3)"
    done <<< "$(tail -n +$((settled + 1)) "$folder/outcomes")"
}
# The output of a test without the lines of GoogleTest and of the shell.
telling() { grep -vE '^\[|^Note|^Running|^$|^test/gpu/frame.sh: line' "$1"; }
count() { grep -c " $2 " "$work/$1/outcomes"; } # GROUP OUTCOME
group_row() {                                   # GROUP
    local all skipped
    all=$(wc -l < "$work/$1/outcomes") skipped=$(count "$1" skipped)
    if [ "$all" = 0 ]; then
        row "$1" "no test found" "all" FAIL
        note "$(head -n 2 "$work/$1/names.txt")"
        return
    fi
    if [ "$all" = "$skipped" ]; then
        row "$1" "0 of $all" "all skipped" SKIPPED
        status=skipped
        return
    fi
    figure "$1" "$(count "$1" ok) of $all in $took s" "all but $skipped skipped" "v == $all - $skipped"
}
# Runs kernel tests that died or failed again: once with a wait after every launch, so that the error is
# reported at the right launch, and once under memcheck. A test without an end is not repeated, because it
# would take as long again.
unit_again() {
    local name how program=$tests/kernel_test_gpu
    if [ ! -e "$work/kernel tests/outcomes" ]; then return; fi
    while read -r name how _; do
        case $how in died | failed) ;; *) continue ;; esac
        part "$name with MOBA_SYNC=1" 30 env MOBA_SYNC=1 "$program" --gtest_filter="$name"
        note "$name, MOBA_SYNC=1: exit status $status: $(telling "$said" | tail -n 1)"
        if [ "$sanitizer" = '' ]; then continue; fi
        part "$name under memcheck" 60 "$sanitizer" --tool memcheck --error-exitcode 9 --print-limit 5 "$program" --gtest_filter="$name"
        note "$name, memcheck: exit status $status: $(grep -m 1 -E '^========= (Inv|Err|Pro|Unc|Out|Mis)' "$said")" \
            "$(grep -m 1 '^=========     at ' "$said")"
    done < "$work/kernel tests/outcomes"
}
sanitizer=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer)

# ---- units ----

# One large matrix product in bf16 and fp32: the reference for shares of the peak. Version 4 of linear is
# cuBLASLt; version 3 is used without it.
unit_card() {
    local precision version some='v > 0' size=(--batch-size 1 --seq-len 8192 --hidden-size 8192 --intermediate-size 8192 --repeats 5)
    if simulated; then
        size=(--seq-len 16 --hidden-size 16 --intermediate-size 16 --repeats 1) some='v >= 0'
    else
        part "nvidia-smi" 20 nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit --format=csv,noheader
        note "$(cat "$said")" "processors: $(nproc)"
    fi
    part version 20 "$moba" --version
    note "$(head -n 1 "$said")"
    for precision in bf16 fp32; do
        for version in 4 3; do
            part "product $precision version $version" 40 "$moba" bench op --device gpu --precision $precision --op linear_forward --kernel-version $version "${size[@]}"
            if [ "$status" = 0 ] || [ "$status" = skipped ]; then break; fi
            note "product $precision version $version: $(grep -vE '^ |: copy ' "$said" | head -n 1)"
        done
        if [ $precision = bf16 ]; then
            figure "copy on the device" "$(sed -n 's/.*: copy \([0-9]*\) GB.*/\1 GB\/s/p' "$said")" "> 0" "$some"
        fi
        figure "product $precision, 8192 x 8192 x 8192" "$(awk '/^linear_forward / { printf "%.4g TFLOP/s (%s)", $6 / 1000, $2 }' "$said")" "cuBLASLt" "$some"
    done
}

# The tests of 2^31 elements are in tier 3. Divides the processors among the processes.
unit_kernel_tests() {
    local program=$tests/kernel_test_gpu filter='-KernelsLarge*' threads
    if simulated; then program=$tests/kernel_test filter=Kernels.Norm:Kernels.Decode; fi
    threads=$(($(nproc) / jobs))
    each_test "kernel tests" 45 "$filter" env OMP_NUM_THREADS=$((threads > 1 ? threads : 1)) "$program"
    group_row "kernel tests"
    if [ "$only" != '' ]; then unit_again; fi
    if simulated; then return; fi
    if [ ! -x "$tests/curand_test" ]; then
        row "Philox is cuRAND's, on the GPU" - "no cuRAND where it was built" SKIPPED
        return
    fi
    part curand_test 30 "$tests/curand_test"
    figure "Philox is cuRAND's, on the GPU" "$(grep -c 'OK ] Curand.SameBitsOnTheGpu' "$said")" "1" "v == 1"
}

unit_golden() {
    local program=$tests/golden_test filter='*'
    # the other half is a separate test
    if simulated; then program=${program}_simt filter=Golden.Model; fi
    each_test golden 60 "$filter" "$program"
    group_row golden
    figure "golden files, results compared on the GPU" "$(cat "$work"/golden/*.*.txt 2> /dev/null | grep -c ' gpu ')" "> 0" "v > 0"
}

# 20 losses in fp32, on the CPU and on the GPU
unit_losses() {
    local device
    for device in cpu gpu; do twenty_steps $device "$moba" --device $device; done
    compare_losses "GPU against CPU" cpu gpu 1e-4
}
# twenty_steps NAME COMMAND... OPTIONS: trains with the words of COMMAND, `train` and OPTIONS, which begin with --
twenty_steps() {
    local name=$1 command=() first=(--config train/configs/needle.json --curriculum '' --steps 20 --eval-every 0 --log-every 1)
    shift
    if simulated; then first+=(--batch-size 2 --seq-len 32); fi
    while [ $# -gt 0 ] && [ "${command[*]: -1}" != "$moba" ]; do command+=("$1") && shift; done
    check "20 steps, $name" 60 "${command[@]}" train "${first[@]}" "$@" --out "$work/first_$name"
}
# compare_losses WHAT NAME NAME LIMIT
compare_losses() {
    figure "20 losses, $1" "$(paste <(losses "$2") <(losses "$3") |
        awk 'NF == 2 { d = ($2 - $1) / $1; d = d < 0 ? -d : d; if (!(d <= worst)) worst = d; n++ }
             END { if (n == 20) printf "%.1e", worst }')" "relative <= $4" "v <= $4"
}
losses() { grep -o '"loss":[^,}]*' "$work/first_$1/log.jsonl" 2> /dev/null | cut -d: -f2; }
