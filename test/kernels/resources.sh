#!/usr/bin/env bash
# resources.sh VERSION TOOL KERNEL_TEST LAUNCHES OBJECT...: compares registers, shared memory and occupancy of
# every kernel with test/kernels/resources.txt. VERSION: of nvcc; LAUNCHES: the file that SIMT_RECORD wrote in
# a run of KERNEL_TEST; OBJECT.ptxas: written by test/kernels/ptxas.sh. Also fails if ptxas had to serialize the
# wgmma of a kernel: that is correct, but products then never run beside other work. Exit status 77: SKIPPED.
set -euo pipefail
export LC_ALL=C
toolkit="nvcc $1" tool=$2 program=$3 launches=$4
shift 4
table=$(dirname "$0")/resources.txt new=$launches.txt
if cat "${@/%/.ptxas}" | grep -E '\(C75[0-9]{2}\)' | c++filt -p; then
    echo "ptxas serializes wgmma, see above. Usual cause: a path on which accumulators are read, written or given up while a product runs"
    exit 1
fi
if [ "$(head -n 1 "$table" | grep -o '^nvcc [^ ;]*')" != "$toolkit" ]; then
    echo "SKIPPED: the table is not of $toolkit: $(head -n 1 "$table")"
    exit 77
fi
join -o 1.2,1.3,2.2 <(sort "$launches") <(nm "$program" | awk '{ print $1, $3 }' | sort) | c++filt -p | sed "s/moba:://g" > "$launches.named"
cat "${@/%/.ptxas}" | c++filt -p | sed "s/moba:://g" > "$launches.ptxas"
{
    echo "$toolkit; launches: the largest of kernel_test, shared memory first; shared memory in bytes"
    echo "arch   registers  static  dynamic  threads   occ.  kernel"
    "$tool" "$launches.named" "$launches.ptxas" | sort -k7 -k1
} > "$new"
for arch in sm_80 sm_90a; do
    if ! grep -q "^$arch " "$new"; then
        echo "SKIPPED: the kernels were not compiled for $arch (MOBA_ARCHS)"
        exit 77
    fi
done
if ! diff -u "$table" "$new"; then
    echo "The kernels take other resources than test/kernels/resources.txt says. If that is meant: cp $new $table"
    exit 1
fi
