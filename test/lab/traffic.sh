#!/usr/bin/env bash
# traffic.sh PROGRAM COMPILER PROCESSOR: compares what every kernel does to memory, at small sizes, with test/lab/traffic.txt. So
# a commit shows in its diff what it changes. PROGRAM: build/lab/moba. COMPILER: "GNU 12.2.0"; another compiler may
# order code differently. Exit status 77: SKIPPED.
set -euo pipefail
export LC_ALL=C
table=$(dirname "$0")/traffic.txt program=$1 compiler="${2%%.*} $3"
new=$(mktemp)
read -ra sizes < "$(dirname "$0")/sizes.txt"
for precision in bf16 fp32; do
    "$program" lab all --kernel-version all --table --precision $precision "${sizes[@]}"
done > "$new"
if [ "$(head -n 1 "$table")" != "$compiler" ]; then
    echo "SKIPPED: the table is of $(head -n 1 "$table"), this is $compiler"
    exit 77
fi
if ! diff -u <(tail -n +2 "$table") "$new"; then
    echo "The kernels access memory differently than test/lab/traffic.txt says. If that is meant: (echo $compiler; cat $new) > $table"
    exit 1
fi
rm "$new"
