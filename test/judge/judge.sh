#!/usr/bin/env bash
# judge.sh PROGRAM OP: is the kernel in docs/course/OP.cu right, in every order of threads? Then what it does to memory,
# and what our versions do. PROGRAM: build/lab/judge. `make judge OP=norm` calls this.
set -uo pipefail
judge=$1 op=$2 said=$(mktemp)
trap 'rm -f "$said"' EXIT
wrong_in=
for order in forward greedy-forward greedy-reverse greedy-random:1; do
    { SIMT_ORDER=$order timeout 300 "$judge" "$op"; } > "$said.now" 2>&1
    status=$?
    if [ $status = 2 ]; then cat "$said.now"; rm "$said.now"; exit 2; fi
    if [ $status != 0 ]; then
        if [ $status = 139 ]; then echo "it accesses memory that does not exist" >> "$said.now"; fi
        if [ $status = 124 ]; then echo "it does not end within 5 minutes" >> "$said.now"; fi
        [ -n "$wrong_in" ] || mv "$said.now" "$said"
        wrong_in+=" $order"
    fi
    rm -f "$said.now"
done
if [ -n "$wrong_in" ]; then
    grep -v "Segmentation fault" "$said" | head -n 20
    echo "docs/course/$op.cu is WRONG in these orders of threads:$wrong_in"
    [ "$(wc -w <<< "$wrong_in")" = 4 ] || echo "In other orders it is right, so a barrier may be missing."
    exit 1
fi
echo "docs/course/$op.cu is right: four orders of threads, fp32 and bf16. What it does to memory, in bf16:"
"$judge" "$op" --costs
