# Tier 3 of test/gpu.sh: learning a task, equal bits, graphs, 2^31 elements, profiler and sanitizers.
# shellcheck shell=bash disable=SC2034,SC2154 # names that the other files use, or set

# ---- whole trainings ----

task=(--config train/configs/needle.json --log-every 100)
eval_size=()
if simulated; then
    task+=(--curriculum '' --steps 3 --batch-size 1 --seq-len 32 --eval-samples 2 --hidden-size 32 --intermediate-size 32)
    eval_size=(--samples 1 --depths 2)
fi
# train NAME PRECISION OPTIONS...: trains into the folder "$work/needle NAME"
train() {
    check "train needle, $1" 90 "$moba" train "${task[@]}" --device gpu --precision "$2" --out "$work/needle $1" "${@:3}"
    seconds_of[$1]=$took
}
declare -A seconds_of
bits() { sha256sum "$work/needle $1/latest/model.safetensors" 2> /dev/null | cut -c 1-12; }
same_bits() { # WHAT NAME NAME
    local one two
    one=$(bits "$2") two=$(bits "$3")
    figure "$1" "${two:--}" "${one:-a checkpoint}" "\"$one\" != \"\" && \"$one\" == \"$two\""
}

# Other rounding gives another training. So the accuracy must be at least the mean of the CPU's trainings
# minus their range: seeds 1, 2, 3 of compare and seed 1 of train/configs/needle.json gave 98.7, 99.4, 98.2,
# 99.1 %.
unit_needle() {
    local precision accuracy bar
    bar=$(echo 98.7 99.4 98.2 99.1 | awk '{ for (i = 1; i <= NF; i++) { s += $i; if (i == 1 || $i < a) a = $i; if ($i > b) b = $i } printf "%.2f", s / NF - (b - a) }')
    for precision in fp32 bf16; do
        train $precision $precision
        if [ "$status" = 0 ]; then
            part "eval needle, $precision" 60 "$moba" eval --model "$work/needle $precision" --device gpu --precision $precision "${eval_size[@]}"
        fi
        accuracy=$(grep -o 'accuracy [0-9.]*%' "$work/eval needle, $precision.txt" 2> /dev/null | tail -n 1 | tr -dc 0-9.)
        if simulated; then
            figure "needle, accuracy in $precision" "${accuracy:+$accuracy %}" "(hardly trained)"
        else
            figure "needle, accuracy in $precision" "${accuracy:+$accuracy %}" ">= $bar %" "v >= $bar"
        fi
    done
    for precision in fp32 bf16; do
        train "$precision again" $precision
        same_bits "the same bits again, $precision" $precision "$precision again"
    done
}

# Two ranks, each with a GPU: losses against those of one rank, with samples shared out and with one sample on both
unit_ranks() {
    local gpus=2 two=(mpirun --oversubscribe --allow-run-as-root -np 2 "$moba")
    if ! simulated; then gpus=$(nvidia-smi -L | grep -c ^GPU); fi
    if [ "$gpus" -lt 2 ]; then
        row "two ranks" - "two GPUs; here are $gpus" SKIPPED
        return
    fi
    if ! command -v mpirun > /dev/null || [ "$(ldd "$moba" | grep -c libmpi)" = 0 ]; then
        row "two ranks" - "MPI; none here or when it was built" SKIPPED
        return
    fi
    if ! [ -e "$work/first_gpu" ]; then twenty_steps gpu "$moba" --device gpu; fi
    twenty_steps "two ranks" "${two[@]}" --device gpu
    compare_losses "two ranks against one" gpu "two ranks" 1e-5
    twenty_steps "sharing samples" "${two[@]}" --device gpu --context-parallel 2
    compare_losses "sharing samples" gpu "sharing samples" 1e-4
}

# A training whose steps are recorded once and replayed, against one whose kernels are launched one by one
unit_graph() {
    part "train --help" 20 "$moba" train --help
    if ! grep -q -e '--no-graph' "$said"; then
        row "graph against no graph" - "no --no-graph here" SKIPPED
        return
    fi
    if [ "$(bits fp32)" = '' ]; then train fp32 fp32; fi
    train "without a graph" fp32 --no-graph
    row "graph against no graph" "${seconds_of[fp32]} s and $took s" "the whole training" ok
    same_bits "the same bits without a graph" fp32 "without a graph"
}

# ---- sizes ----

# Each test needs 20 GB of the GPU and 9 GB of the host: two run at the same time.
unit_large() {
    local program=$tests/kernel_test_gpu
    if simulated; then return; fi
    jobs=2 each_test "tensors of 2^31 elements" 90 'KernelsLarge*:*LongestBlocks' env MOBA_LONG=1 "$program"
    group_row "tensors of 2^31 elements"
}

# ---- how memory is used ----

# Sectors for each request of global memory (4 if the lanes read 4 bytes each side by side, 16 for 16 bytes),
# and conflicts for each access of shared memory. The clocks are not changed.
unit_ncu() {
    local ncu kernel op metrics values
    ncu=$(PATH=$PATH:/usr/local/cuda/bin:$(echo /opt/nvidia/nsight-compute/* | tr ' ' ':') command -v ncu)
    if [ "$ncu" = '' ] || simulated; then
        row "ncu: sectors and bank conflicts" - "no ncu here" SKIPPED
        return
    fi
    metrics=l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum,l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum
    metrics+=,l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum,l1tex__data_pipe_lsu_wavefronts_mem_shared.sum
    metrics+=,sm__warps_active.avg.pct_of_peak_sustained_active,gpu__time_duration.sum
    while read -r kernel op; do
        part "ncu $kernel" 45 "$ncu" --csv --clock-control none -k "regex:$kernel" -c 1 --metrics $metrics \
            "$moba" bench op --device gpu --precision bf16 --op "$op" --seq-len 8192 --batch-size 2 --hidden-size 2048 --num-heads 16 \
            --head-dim 128 --block-size 128 --top-k 8 --vocab-size 32000 --repeats 1
        if grep -qE 'ERR_NVGPUCTRPERM|No kernels were profiled|Failed to initialize|LibraryNotLoaded' "$said"; then status=refused; fi
        case $status in
            0) ;;
            skipped) row "ncu $kernel" - "no time left" SKIPPED && continue ;;
            124) row "ncu $kernel" "stopped after $took s" - SKIPPED && continue ;;
            *)
                row "ncu $kernel" - "ncu cannot" SKIPPED
                note "$(grep -m 1 '^==ERROR==\|^==WARNING==' "$said")"
                continue
                ;;
        esac
        values=$(awk -F '","' '
            NF < 15 { next }
            { gsub(/"$/, "", $NF); v = $NF; gsub(",", "", v); m = $(NF - 2) }
            m ~ /requests.*global/ { requests = v } m ~ /sectors.*global/ { sectors = v }
            m ~ /bank_conflicts/ { conflicts = v } m ~ /wavefronts/ { waves = v } m ~ /warps_active/ { warps = v }
            END {
                if (requests > 0) printf "%.1f sectors a request", sectors / requests
                if (waves > 0) printf ", %.0f%% conflicts", 100 * conflicts / waves
                printf "|%.0f%% of the warps", warps
            }' "$said")
        row "ncu $kernel" "${values%|*}" "${values#*|}" ok
    done <<< "attention_forward n_forward_moba
attention_backward n_backward_moba
attention_merge n_forward_moba
gate_choose gate_forward
swiglu_backward swiglu_backward
loss_kernel loss_forward"
}

# ncu's counters of one launch against those of `moba lab`, which needs no GPU: requests and sectors of device memory,
# wavefronts of shared memory. They must be equal. test/lab/traffic.txt; only kernels with one launch in an operation, and
# without cp.async.
unit_lab() {
    local ncu kernel op version metrics='' m got want
    ncu=$(PATH=$PATH:/usr/local/cuda/bin:$(echo /opt/nvidia/nsight-compute/* | tr ' ' ':') command -v ncu)
    if [ "$ncu" = '' ] || simulated; then
        row "lab: ncu's counters" - "no ncu here" SKIPPED
        return
    fi
    for m in t_requests_pipe_lsu_mem_global t_sectors_pipe_lsu_mem_global data_pipe_lsu_wavefronts_mem_shared; do
        metrics+=,l1tex__${m}_op_ld.sum,l1tex__${m}_op_st.sum
    done
    while read -r kernel op version; do
        # shellcheck disable=SC2046 # words
        part "lab $kernel" 45 "$ncu" --csv --clock-control none -k "regex:^$kernel\$" -c 1 --metrics "${metrics#,}" \
            "$moba" bench op --device gpu --precision bf16 --op "$op" --kernel-version "$version" --repeats 1 $(cat test/lab/sizes.txt)
        if [ "$status" = skipped ]; then row "lab: $kernel" - "no time left" SKIPPED && continue; fi
        got=$(awk -F '","' '
            NF < 15 { next }
            { gsub(/"$/, "", $NF); v = $NF; gsub(",", "", v); m = $(NF - 2); n++ }
            m ~ /requests/ { requests += v } m ~ /sectors/ { sectors += v } m ~ /wavefronts/ { waves += v }
            END { if (n == 6) print requests, sectors, waves }' "$said")
        want=$(awk -v op="$op" -v version="$version" -v kernel="$kernel" '
            /^fp32/ { exit }
            $1 == op && $2 == version && index($12, kernel "<") == 1 { print $3, $4, $7 }' test/lab/traffic.txt)
        if [ "$got" = '' ]; then
            row "lab: $kernel" - "ncu cannot" SKIPPED
            note "$(grep -m 1 '^==ERROR==\|^==WARNING==' "$said")"
        else
            row "lab: $kernel" "$got" "$want" "$([ "$got" = "$want" ] && echo ok || echo FAIL)"
        fi
    done <<< "norm_forward_kernel1 norm_forward 1
norm_forward_kernel2 norm_forward 3
product_kernel1 linear_forward 1
product_kernel2 linear_forward 2
product_kernel3 linear_forward 3
swiglu_forward_kernel swiglu_forward 2
rope_kernel rope_forward 2
gate_choose_kernel2 gate_forward 2
attention_forward_kernel2 attention_forward_full 2
decode_piece_kernel decode_attention_full 1"
}

# A test stopped by the time limit is no failure here. memcheck runs every test, the other tools only short
# ones.
unit_sanitizers() {
    local tool filter small program=$tests/kernel_test_gpu
    small='Kernels.Rope:Kernels.Norm:Kernels.ResidualNorm:Kernels.Loss:Kernels.KeyConv:Kernels.GateSpecialScores:Kernels.Linear'
    small+=':KernelsAttention.LargeScores:KernelsAttention.Full:KernelsAttention.Moba'
    if [ "$sanitizer" = '' ]; then
        row "compute-sanitizer" - "not here" SKIPPED
        return
    fi
    # some machines do not allow it
    part "compute-sanitizer" 60 "$sanitizer" --tool memcheck "$program" --gtest_filter=Kernels.Residual
    if ! grep -q 'ERROR SUMMARY' "$said"; then
        row "compute-sanitizer" "exit status $status" "cannot work here" SKIPPED
        note "$(grep -m 2 '^=========' "$said")"
        return
    fi
    for tool in memcheck racecheck synccheck initcheck; do
        filter=$small
        if [ $tool = memcheck ]; then filter='-KernelsLarge*:Kernels.SortRows:*DeathTest*'; fi
        time_out=skipped each_test $tool 120 "$filter" "$sanitizer" --tool $tool --error-exitcode 9 --print-limit 10 "$program"
        group_row $tool
    done
}
