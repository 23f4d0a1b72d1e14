# Tier 2 of test/gpu.sh: attention compared with PyTorch's, a training step, every operation, decoding.
# shellcheck shell=bash disable=SC2034,SC2154 # names that the other files use, or set

bench() { # NAME LIMIT WORD OPTIONS...
    part "$1" "$2" "$moba" bench "$3" --device gpu "${@:4}"
}

# ---- attention: B=2, 16 heads, S=128, K=8 ----

# "VERSION FORWARD_MS BACKWARD_MS" for each version of attention in the rows of a bench. The forward time
# includes the gate of the same version, or of the gate's last version, and the lists.
attention_ms() { # KIND FILE...
    awk -v kind="$1" '
        { sub(/^best:[0-9]+$/, "best", $2) }  # which version is the best may differ between operations
        $1 == "gate_forward" { gate[$2] = $3; last = $3 }
        $1 == "gate_lists" { lists = $3 }
        $1 == "attention_forward_" kind { forward[$2] = $3; order[++n] = $2 }
        $1 == "attention_backward_" kind { backward[$2] = $3 }
        END {
            for (i = 1; i <= n; i++) {
                v = order[i]
                extra = kind == "moba" ? (v in gate ? gate[v] : last) + lists : 0
                if (v in backward) print v, forward[v] + extra, backward[v]
            }
        }' "${@:2}"
}
# attention_rows NAME KIND FILE...: prints a row for each version; sets $forward and $backward to those of the last
attention_rows() {
    local version
    forward='' backward=''
    while read -r version forward_ms backward_ms; do
        forward=$forward_ms backward=$backward_ms
        if [ "$version" != best ]; then version="version $version"; fi
        row "$1 $2, $version" "$(printf '%.4g + %.4g ms' "$forward" "$backward")" "forward + backward" ok
    done < <(attention_ms "${@:2}")
}
declare -A moba_ms # forward and backward ms of "PRECISION D T"
declare -A last_full # T, forward and backward ms of "PRECISION D"
# attention PRECISION D T VERSION: full attention only if the previous size predicts at most 20 s, and at most
# a third of the time that is left
attention() {
    local name="$1 D=$2 T=$3" key="$1 $2" gate most size=(--precision "$1" --head-dim "$2" --seq-len "$3" --batch-size 2 --num-heads 16)
    local size_s forward backward ms
    size+=(--block-size 128 --top-k 8 --kernel-version "$4" --repeats $((200000 / $3 > 9 ? 9 : 200000 / $3 + 1)))
    if simulated; then size+=(--batch-size 1 --num-heads 1 --block-size 16 --top-k 2 --repeats 1); fi
    bench "$name gate" 60 op --op gate "${size[@]}"
    gate=$said
    if verdict "$name gate"; then
        bench "$name MoBA" 60 op --op ward_moba "${size[@]}"
        if verdict "$name MoBA"; then
            attention_rows "$name" moba "$gate" "$said"
            moba_ms["$key $3"]="$forward $backward"
        fi
    fi
    size_s=$(awk -v last="${last_full[$key]-}" -v t="$3" 'BEGIN { if (split(last, l)) printf "%.0f", 1e-3 * (3 * l[2] + 2 * l[3]) * (t / l[1]) ^ 2; else print 0 }')
    most=$(($(left) / 3))
    most=$((most < 20 ? most : 20))
    if [ "$size_s" -gt $most ]; then
        row "$name full" "would take $size_s s" "at most $most s" SKIPPED
        return
    fi
    bench "$name full" 60 op --op ward_full "${size[@]}" --repeats $(($3 > 16384 ? 1 : 3))
    if ! verdict "$name full"; then return; fi
    attention_rows "$name" full "$said"
    last_full[$key]="$3 $forward $backward"
    ms=$(awk -v m="${moba_ms["$key $3"]-}" -v f="$forward $backward" 'BEGIN {
        if (split(m, a) && split(f, b)) printf "%.2f (forward %.2f)", (b[1] + b[2]) / (a[1] + a[2]), b[1] / a[1] }')
    if simulated; then figure "$name full / MoBA" "$ms"; else figure "$name full / MoBA" "$ms" "> 1" "v > 1"; fi
}

unit_attention() {
    if simulated; then
        attention fp32 16 128 all
        attention bf16 16 128 0
        return
    fi
    attention bf16 128 8192 all
    attention bf16 128 65536 0
    attention bf16 128 524288 0
}
unit_attention_sizes() {
    local t
    if simulated; then return; fi
    for t in 16384 32768 131072 262144; do attention bf16 128 $t 0; done
    for t in 8192 65536 524288; do attention bf16 64 $t 0; done
    attention fp32 128 8192 all
    attention fp32 128 65536 0
}

# One process for all sizes; it leaves out the sizes that would take too long.
unit_torch() {
    local backend precision d t forward backward rest python
    if simulated; then return; fi
    for python in $pythons; do
        part PyTorch 75 "$python" -u test/python/sdpa.py 45
        if [ "$status" = skipped ] || grep -q '^row ' "$said"; then break; fi
    done
    while read -r backend precision d t forward backward rest; do
        case $forward in
            [0-9]*)
                row "$precision D=$d T=$t PyTorch, $backend" "$(printf '%.4g + %.4g ms' "$forward" "$backward")" \
                    "$(awk -v m="${moba_ms["$precision $d $t"]-}" -v f="$forward" -v b="$backward" 'BEGIN {
                        if (split(m, a)) printf "MoBA: %.2fx, forward %.2fx", (f + b) / (a[1] + a[2]), f / a[1]; else print "-" }')" ok
                ;;
            *) row "$precision D=$d T=$t PyTorch, $backend" - "$(echo "$forward $backward $rest" | cut -c 1-28)" SKIPPED ;;
        esac
    done < <(sed -n 's/^row //p' "$said")
    if ! grep -q '^row ' "$said" && [ "$status" != skipped ]; then
        row "PyTorch's attention" - "no torch with a GPU here" SKIPPED
        note "$(tail -n 1 "$said")"
        return
    fi
    # figures printed before the process was stopped are used
    if [ "$status" = skipped ] || [ "$status" = 124 ]; then
        row "PyTorch's attention" "stopped after $took s" "the other sizes" SKIPPED
    elif [ "$status" != 0 ]; then
        row "PyTorch's attention" "exit status $status" "the other sizes" SKIPPED
        note "$(tail -n 2 "$said")"
    fi
}

# ---- a step, operations, a token ----

# 124M parameters, B=2, T=8192
unit_step() {
    local precision model=(--num-layers 12 --hidden-size 768 --num-heads 12 --vocab-size 50304 --seq-len 8192 --batch-size 2 --repeats 3)
    if simulated; then
        model=(--seq-len 48 --hidden-size 16 --num-heads 1 --num-layers 1 --block-size 16 --top-k 2 --repeats 1)
    fi
    for precision in bf16 fp32; do
        bench "step $precision, 124M parameters, T=8192" 60 step --precision $precision "${model[@]}" --profile
        if ! verdict "step $precision, 124M parameters, T=8192"; then continue; fi
        while read -r kind ms tokens _ mfu; do
            row "step $precision, 124M, T=8192, $kind" "$ms ms, $tokens tokens/s" "MFU $mfu" ok
        done < <(grep -E '^(moba|full) ' "$said")
        # the operations that take at least 1 % of the step with moba
        note "$(awk '/^a step with moba, operation/ { on = 1; next } /^a step with full, operation/ { on = 0 }
            on && /%$/ && substr($0, 47) + 0 >= 1 { print }' "$said")"
        if simulated; then return; fi
    done
}

# The same model in PyTorch
unit_torch_step() {
    local way t ms tokens python
    if simulated; then return; fi
    for python in $pythons; do
        part "PyTorch's step" 90 "$python" -u test/python/torch_step.py 8192 eager compiled
        if [ "$status" = skipped ] || grep -q '^row ' "$said"; then break; fi
    done
    while read -r way t ms tokens; do
        row "step bf16, 124M, T=$t, PyTorch, full, $way" "$ms ms, $tokens tokens/s" - ok
    done < <(sed -n 's/^row //p' "$said")
    if ! grep -q '^row ' "$said"; then
        row "PyTorch's step" - "no torch with a GPU here" SKIPPED
        note "$(tail -n 1 "$said")"
    fi
}

# Compares each operation with a copy on the device, or with the device's peak if arithmetic dominates.
unit_ops() {
    local precision size=(--seq-len 8192 --batch-size 2 --hidden-size 2048 --num-heads 16 --head-dim 128 --vocab-size 32000 --repeats 3)
    if simulated; then size=(--seq-len 32 --hidden-size 16 --num-heads 1 --head-dim 16 --repeats 1); fi
    for precision in bf16 fp32; do
        bench "ops $precision" 60 op --precision $precision "${size[@]}"
        # uses the rows that were printed, even if the part was stopped
        while read -r name version ms _ copy gflops peak _; do
            if [ "$gflops" = - ]; then peak="$copy of a copy"; else peak="$peak of the peak"; fi
            row "$precision $name, $version" "$ms ms" "$peak" ok
        done < <(awk '$3 + 0 > 0 && $5 ~ /%$/' "$said")
        verdict "ops $precision" || true
        if simulated; then return; fi
    done
}

unit_decode() {
    local size=(--seq-len 65536 --hidden-size 1024 --num-heads 8 --num-layers 4)
    if simulated; then size=(--seq-len 64 --hidden-size 16 --num-heads 1 --num-layers 1 --block-size 16 --top-k 2 --repeats 1); fi
    bench "decode bf16, 65536 cached" 60 decode --precision bf16 "${size[@]}"
    if ! verdict "decode bf16, 65536 cached"; then return; fi
    while read -r kind ms tokens _; do
        row "decode bf16, 65536 cached, $kind" "$ms ms" "$tokens tokens/s" ok
    done < <(grep -E '^(moba|full) +[0-9]' "$said")
}
