#!/usr/bin/env bash
# Tests that only a real GPU can run, in ten minutes, the most important first. Exit status 1 if a part failed, 77
# without a GPU.
#   make gpu-bundle; test/gpu.sh   with gpu-bundle/, built on any machine: nothing is compiled here, and only
#                                  the driver is needed
#   test/gpu.sh                    without it: builds first; needs CMake, nvcc, and deps/ (make deps-bundle) or
#                                  the libraries
#   --tier N      only tier 1, 2 or 3
#   --only NAME   only one unit: build card kernel_tests golden losses,
#                 attention step torch ops decode attention_sizes,
#                 needle graph ranks torch_step large ncu lab sanitizers
#   --simulate    tests this script itself, on the simulated GPU with tiny sizes
# Tier 1: correctness (90 s). Tier 2: speed (180 s). Tier 3: everything that takes longer. Parts that do not fit
# the time of their tier are SKIPPED. Results are written during the run to $OUT (out/gpu): tierN.table.txt, a row
# for each figure, and tierN.log.txt, all output. Environment:
#   MOBA_GPU_SECONDS ("90 180 570")   seconds for tier 1, tier 2 and all tiers
#   MOBA_BUILD (build/gpu)            build folder
#   MOBA_GPU_JOBS (6)                 number of tests that run at the same time
# shellcheck source-path=SCRIPTDIR/.. disable=SC2034 # jobs and others are for test/gpu/*.sh
set -u
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 2
simulate=0 only='' tiers='1 2 3'
usage() {
    sed -n '2,18s/^# //p' test/gpu.sh
    exit 2
}
simulated() { [ $simulate = 1 ]; }
while [ $# -gt 0 ]; do
    case $1 in
        --simulate) simulate=1 ;;
        --tier) tiers=${2-} && shift ;;
        --only) only=${2-} && shift ;;
        *) usage ;;
    esac
    shift || usage
done
units=('' 'card kernel_tests golden losses again' 'attention step torch ops decode attention_sizes' 'needle graph ranks torch_step large ncu lab sanitizers')
case $tiers in 1 | 2 | 3 | '1 2 3') ;; *) usage ;; esac
case " build ${units[*]} " in *" ${only:-card} "*) ;; *) usage ;; esac

read -r tier1 tier2 total <<< "${MOBA_GPU_SECONDS:-90 180 570}"
# no time limits, because a slow machine is no failure
if simulated; then tier1=1000000000 tier2=$tier1 total=$tier1; fi
jobs=${MOBA_GPU_JOBS:-6}
out=${OUT:-out/gpu}
mkdir -p "$out"
out=$(cd "$out" && pwd) || exit 2
rm -f "$out"/tier*.txt

. test/gpu/frame.sh
. test/gpu/programs.sh
. test/gpu/right.sh
. test/gpu/fast.sh
. test/gpu/long.sh

find_programs
work=$(mktemp -d "${TMPDIR:-/tmp}/moba_gpu.XXXXXX") || exit 2 # models, and the output of each part
trap 'kill $(jobs -p) 2> /dev/null; rm -rf "$work"' EXIT
trap 'exit 143' TERM INT HUP

if ! simulated; then
    if ! nvidia-smi > /dev/null 2>&1; then
        echo "SKIPPED: no GPU: $(nvidia-smi 2>&1 | head -n 1)"
        exit 77
    fi
    if [ "$bundle" = '' ]; then run_tier 0 300 build; fi
fi
limits=(0 "$tier1" "$tier2" "$total")
for t in $tiers; do
    # shellcheck disable=SC2086 # a list of words
    run_tier "$t" "${limits[t]}" ${units[t]}
done
summary
exit "$failed"
