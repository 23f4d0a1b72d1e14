#!/usr/bin/env bash
# Crash test: kills trainings that save at every step with SIGKILL at random moments, and resumes them each
# time. No data may be lost: the checkpoint that `latest` names is complete, the log has every step exactly
# once, and the final model has the same bits as that of an undisturbed run.
#   test/crash.sh PROGRAM [KILLS, default 200]
set -u
moba=$(realpath "$1") kills=${2:-200}
text=$(realpath "$(dirname "$0")/../data/tinyshakespeare.txt")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 2
RANDOM=7
done_kills=0 in_save=0 early=0 seed=0

fail() {
    echo "crash.sh: seed $seed after $done_kills kills: $1"
    cp -r "$dir" /tmp/moba-crash-failure && echo "kept in /tmp/moba-crash-failure"
    exit 1
}

while [ $done_kills -lt "$kills" ]; do
    seed=$((seed + 1))
    rm -rf whole cut
    run="train --data $text --hidden-size 64 --seq-len 64 --batch-size 4 --top-k 2 --dropout 0.1 --steps 60 --save-every 1
        --eval-every 20 --eval-samples 8 --seed $seed --out"
    # shellcheck disable=SC2086
    begun=${EPOCHREALTIME/./}
    "$moba" $run whole > whole.txt 2>&1 || fail "the undisturbed run: $(tail -n 1 whole.txt)"
    most=$(((${EPOCHREALTIME/./} - begun) / 3)) # microseconds until the latest kill
    while true; do
        if [ -e cut/latest ]; then
            "$moba" train --resume --out cut > cut.txt 2>&1 &
        else
            rm -rf cut
            # shellcheck disable=SC2086
            "$moba" $run cut > cut.txt 2>&1 &
        fi
        child=$!
        most=$((most + most / 20)) # a little later each time, so that every machine reaches the end
        delay=$(((RANDOM << 15 | RANDOM) % most))
        sleep "$((delay / 1000000)).$(printf %06d $((delay % 1000000)))"
        if ! kill -9 $child 2> /dev/null; then
            wait $child || fail "resuming: $(tail -n 1 cut.txt)"
            break
        fi
        wait $child 2> /dev/null
        done_kills=$((done_kills + 1))
        if compgen -G 'cut/*.tmp' > /dev/null; then in_save=$((in_save + 1)); fi
        if [ ! -e cut/latest ]; then
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
done
echo "crash.sh: $done_kills kills over $seed runs, $in_save in the middle of a save, $early before the first; nothing lost, same bits"
