#!/usr/bin/env bash
# Crash test: kills trainings that save at every step with SIGKILL at random moments, every second time within
# the first moments, and resumes them each time. Every third time the folder is replaced by a copy in which
# links became folders. No data may be lost: the checkpoint that `latest` names is complete, the log has every
# step and every validation exactly once, and the final model has the same bits as that of an undisturbed run.
#   test/crash.sh PROGRAM [KILLS, default 200]
set -u
moba=$(realpath "$1") kills=${2:-200}
text=$(realpath "$(dirname "$0")/../data/tinyshakespeare.txt")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 2
RANDOM=7
done_kills=0 in_save=0 in_validation=0 early=0 copies=0 seed=0

fail() {
    echo "crash.sh: seed $seed after $done_kills kills: $1"
    cp -r "$dir" /tmp/moba-crash-failure && echo "kept in /tmp/moba-crash-failure"
    exit 1
}

saved() { compgen -G 'cut/step-*[0-9]/state.json' > /dev/null; }

while [ $done_kills -lt "$kills" ]; do
    seed=$((seed + 1))
    rm -rf whole cut
    run="train --data $text --hidden-size 64 --seq-len 64 --batch-size 4 --top-k 2 --dropout 0.1 --steps 60 --save-every 1
        --eval-every 1 --eval-samples 16 --seed $seed --out"
    # shellcheck disable=SC2086
    begun=${EPOCHREALTIME/./}
    "$moba" $run whole > whole.txt 2>&1 || fail "the undisturbed run: $(tail -n 1 whole.txt)"
    most=$(((${EPOCHREALTIME/./} - begun) / 3)) # microseconds until the latest kill
    while true; do
        if saved; then
            if [ $((RANDOM % 3)) = 0 ]; then
                cp -rL cut copy && rm -rf cut && mv copy cut || fail "copying"
                copies=$((copies + 1))
            fi
            "$moba" train --resume --out cut > cut.txt 2>&1 &
        else
            # shellcheck disable=SC2086
            "$moba" $run cut > cut.txt 2>&1 &
        fi
        child=$!
        most=$((most + most / 20)) # a little later each time, so that every machine reaches the end
        delay=$(((RANDOM << 15 | RANDOM) % most))
        if [ $((RANDOM % 2)) = 0 ]; then delay=$((delay % 100000)); fi
        sleep "$((delay / 1000000)).$(printf %06d $((delay % 1000000)))"
        if ! kill -9 $child 2> /dev/null; then
            wait $child || fail "resuming: $(tail -n 1 cut.txt)"
            break
        fi
        wait $child 2> /dev/null
        done_kills=$((done_kills + 1))
        if compgen -G 'cut/*.tmp' > /dev/null; then in_save=$((in_save + 1)); fi
        if [ -s cut/log.jsonl ] && ! tail -n 1 cut/log.jsonl | grep -q val_loss; then in_validation=$((in_validation + 1)); fi
        if ! saved; then
            early=$((early + 1))
        else
            "$moba" info --model cut > info.txt 2>&1 || fail "a checkpoint that is not whole: $(cat info.txt)"
        fi
    done
    for file in model.safetensors state.safetensors; do
        cmp -s "whole/latest/$file" "cut/latest/$file" || fail "$file differs from the undisturbed run"
    done
    steps=$(grep -c grad_norm cut/log.jsonl)
    [ "$steps" -eq 60 ] || fail "log.jsonl has $steps steps, not 60"
    validations=$(grep -c val_loss cut/log.jsonl)
    [ "$validations" -eq 60 ] || fail "log.jsonl has $validations validations, not 60"
done
echo "crash.sh: $done_kills kills over $seed runs, $in_save in the middle of a save, $in_validation of a validation, $early before the first, $copies copies; nothing lost, same bits"
