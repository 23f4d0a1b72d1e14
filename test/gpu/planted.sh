#!/usr/bin/env bash
# Runs test/gpu.sh with scripts instead of the GPU tools and test programs: a test that crashes, one that
# fails and one that does not end must give one row each, and the other tests must run. No real time limit is
# used: the script that replaces `timeout` ends the last one by its name.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{tools,test/gpu,build/test}
cp test/gpu.sh "$root/test"
cp test/gpu/*.sh "$root/test/gpu"
echo "bundle of scripts" > "$root/bundle.txt"
write() {
    { echo '#!/usr/bin/env bash' && cat; } > "$root/$1"
    chmod +x "$root/$1"
}
write tools/nvidia-smi <<< 'exit 0'
write tools/timeout << 'E'
case $* in
    *Suite.Hang) exit 124 ;;
    *) exec "${@:4}" ;; # -k 5 SECONDS COMMAND...
esac
E
write tools/compute-sanitizer << 'E'
echo "========= Invalid __global__ read of size 4 bytes"
echo "=========     at loss_kernel1+0x10 in loss.cu:12"
exit 9
E
write build/test/kernel_test_gpu << 'E'
case $* in
    *--gtest_list_tests*) printf 'Suite.\n  First\n  Crash\n  Fail\n  Hang\n  Last\n' ;;
    *Suite.Crash)
        if [ "${MOBA_SYNC-}" = 1 ]; then echo "moba/ops/loss.cu:99: kernel: an illegal memory access was encountered"; fi
        kill -SEGV $$
        ;;
    *Suite.Fail) printf 'error 3e-1, allowed 1e-3\n[  FAILED  ] Suite.Fail\n' && exit 1 ;;
    *Suite.First | *Suite.Last) echo "[       OK ]" ;;
    *) exit 3 ;;
esac
E
status=0
PATH=$root/tools:$PATH OUT=$root/out MOBA_GPU_SECONDS='100000 100000 100000' \
    "$root/test/gpu.sh" --tier 1 --only kernel_tests > "$root/printed" 2>&1 || status=$?
wrong() {
    echo "planted.sh: $1"
    cat "$root/printed"
    exit 1
}
expect() { # N PATTERN: lines of the table
    if [ "$(grep -cE "$2" "$root/out/tier1.table.txt")" != "$1" ]; then wrong "not $1 times in the table: $2"; fi
}
if [ $status != 1 ]; then wrong "exit status $status, not 1"; fi
expect 1 '^  Suite.Crash .*died, exit status 139 .*FAIL$'
expect 1 '^  Suite.Fail .*failed .*FAIL$'
expect 1 '^  Suite.Hang .*no end in .*FAIL$'
expect 1 '^kernel tests .* 2 of 5 .*FAIL$'
expect 4 'FAIL$'
expect 1 '\| error 3e-1, allowed 1e-3$'
expect 1 'Suite.Crash, MOBA_SYNC=1: exit status 139: moba/ops/loss.cu:99: '
expect 2 'memcheck: exit status 9: .*Invalid __global__ read'
expect 2 '\| =========     at loss_kernel1'
expect 0 'Suite.Hang, '
grep -q '^=== kernel tests: Suite.Last' "$root/out/tier1.log.txt" || wrong "no Suite.Last in the log"
echo "ok: a crash, a failure and a test without an end cost a row each"

# ncu's counters are compared with those of the lab: one kernel has the same, one has others, of the rest ncu says nothing.
mkdir -p "$root/test/lab"
cp test/lab/*.txt "$root/test/lab"
write tools/ncu << 'E'
line() { printf '"0","1","moba","h","%s","1","7","(1)","(1)","0","9.0","Command","%s","","%s"\n' "$1" "$2" "$3"; }
counters() { # KERNEL REQUESTS SECTORS WAVEFRONTS
    line "$1" l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum "$2" && line "$1" l1tex__t_requests_pipe_lsu_mem_global_op_st.sum 0
    line "$1" l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum "$3" && line "$1" l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum 0
    line "$1" l1tex__data_pipe_lsu_wavefronts_mem_shared_op_ld.sum "$4" && line "$1" l1tex__data_pipe_lsu_wavefronts_mem_shared_op_st.sum 0
}
case $* in
    *norm_forward_kernel1*) counters norm_forward_kernel1 REQUESTS SECTORS 0 ;;
    *product_kernel3*) counters product_kernel3 1 2 3 ;;
    *) echo "==ERROR== nothing" && exit 1 ;;
esac
E
read -r requests sectors < <(awk '$1 == "norm_forward" && $2 == 1 { print $3, $4; exit }' test/lab/traffic.txt)
sed -i "s/REQUESTS SECTORS/$requests $sectors/" "$root/tools/ncu"
PATH=$root/tools:$PATH OUT=$root/out MOBA_GPU_SECONDS='100000 100000 100000' "$root/test/gpu.sh" --tier 3 --only lab > "$root/printed" 2>&1 || true
in_table() { # PATTERN
    grep -qE "$1" "$root/out/tier3.table.txt" || { echo "planted.sh: not in the table: $1" && cat "$root/printed" && exit 1; }
}
in_table "^lab: norm_forward_kernel1 +$requests $sectors 0 +$requests $sectors 0 +ok\$"
in_table '^lab: product_kernel3 +1 2 3 .*FAIL$'
in_table '^lab: rope_kernel .*ncu cannot +SKIPPED$'
