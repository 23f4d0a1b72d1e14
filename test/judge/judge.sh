#!/usr/bin/env bash
# judge.sh PROGRAM OP: is the kernel in docs/course/OP.cu right, in every order of threads? Then what it does to memory,
# and what our versions do. PROGRAM: build/lab/judge. `make judge OP=norm` calls this.
set -uo pipefail
judge=$1 op=$2 dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
orders=(forward greedy-forward greedy-reverse greedy-random:1)
wrong=() right=()
for order in "${orders[@]}"; do
    said=$dir/$order
    { SIMT_ORDER=$order timeout 300 "$judge" "$op"; } > "$said" 2>&1
    status=$?
    sed -i '/ line [0-9]*: *[0-9]* \(Aborted\|Segmentation fault\)/d' "$said" # the shell's words
    case $status in
    0) right+=("$order") && continue ;;
    2) cat "$said" && exit 2 ;;
    124) echo "it does not end within 5 minutes" >> "$said" ;;
    139) echo "it accesses memory that does not exist" >> "$said" ;;
    esac
    wrong+=("$order")
done
if [ ${#wrong[@]} -gt 0 ]; then
    head -n 20 "$dir/${wrong[0]}"
    echo "docs/course/$op.cu is WRONG in these orders of threads: ${wrong[*]}"
    same=1
    for order in "${wrong[@]}"; do cmp -s "$dir/${wrong[0]}" "$dir/$order" || same=0; done
    if [ ${#right[@]} -gt 0 ] || [ $same = 0 ]; then echo "The results depend on the order of threads: a barrier is missing, or memory is read that nobody has written."; fi
    exit 1
fi
echo "docs/course/$op.cu is right: four orders of threads, fp32 and bf16. What it does to memory, in bf16:"
"$judge" "$op" --costs
