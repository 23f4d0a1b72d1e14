#!/usr/bin/env bash
# test.sh JUDGE JUDGE_PLANTED: the exercises as they are given are right, and the judge finds every planted mistake.
set -uo pipefail
here=$(dirname "$0") failed=0
for op in swiglu norm linear attention; do
    said=$(bash "$here/judge.sh" "$1" $op 2>&1) || { echo "$op as given: $said"; failed=1; }
    for whose in yours ours; do
        grep -q "$op, $whose" <<< "$said" || { echo "$op: no costs: $said"; failed=1; }
    done
    said=$(bash "$here/judge.sh" "$2" $op 2>&1) && { echo "$op: the planted mistake was not found: $said"; failed=1; }
    grep -q "is WRONG" <<< "$said" || { echo "$op: nothing says WRONG: $said"; failed=1; }
done
said=$("$1" nothing 2>&1) && { echo "an unknown OP was accepted"; failed=1; }
[ $failed = 0 ] && echo "judge: four exercises right, four planted mistakes found"
exit $failed
