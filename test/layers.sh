#!/usr/bin/env bash
# Does every line know its room (CONTRIBUTING.md)? Prints each line that does not, and fails if there is one.
#   .cpp and .h never see CUDA · moba/ knows nothing of train/ and test/ · train/ nothing of test/
#   the only #ifdef for CUDA is in moba/op_table.cpp
# A folder may be named to check another tree: that is how this check was seen to fail.
set -u
cd "${1:-$(dirname "$0")/..}" || exit 2
found=0

# forbid WHY PATTERN FILES...: no line of the files may match. grep says 0 found, 1 none; 2 (a missing file) is a
# failure of the check itself and must not pass for "none".
forbid() {
    local why=$1 pattern=$2 lines status
    shift 2
    lines=$(grep -HnE -e "$pattern" -- "$@")
    status=$?
    if [ $status -gt 1 ]; then
        echo "rooms.sh: grep failed on: $*" >&2
        exit 2
    fi
    if [ $status -eq 0 ]; then
        echo "$lines" | sed "s|\$|    <- $why|"
        found=1
    fi
}

# files ROOM...: every .cpp and .h there, but for test/simt/, which is CUDA on the CPU; a room without any is a broken check
files() {
    local room list=()
    for room in "$@"; do
        mapfile -t -O ${#list[@]} list < <(find "$room" -path test/simt -prune -o \( -name '*.cpp' -o -name '*.h' \) -print)
        [ -n "$(find "$room" -name '*.cpp' -print -quit)" ] || { echo "rooms.sh: no .cpp in $room/" >&2; return 2; }
    done
    printf '%s\n' "${list[@]}"
}
list() {
    local text
    text=$(files "$@") || exit 2
    mapfile -t FILES <<<"$text"
}

list moba train test
cuda='#[[:space:]]*include[[:space:]]*[<"]([^>"]*\.cuh|cuda[^>"]*|cublas[^>"]*|curand[^>"]*|nccl[^>"]*|nv[^>"]*|mma\.h)[>"]'
forbid "a CUDA header outside .cu" "$cuda" "${FILES[@]}"
without() { local f; others=(); for f in "${FILES[@]}"; do [ "$f" = "$1" ] || others+=("$f"); done; }
without moba/core/base.h # HOST_DEVICE is defined there, for what kernels share with the CPU
forbid "a kernel outside .cu" '__global__|__device__|<<<' "${others[@]}"
without moba/op_table.cpp
forbid "MOBA_CUDA outside moba/op_table.cpp" 'MOBA_CUDA' "${others[@]}"

list moba
mapfile -t -O ${#FILES[@]} FILES < <(find moba -name '*.cu' -o -name '*.cuh')
forbid "moba/ knows nothing of train/ and test/" '#[[:space:]]*include[[:space:]]*[<"]([^>"]*/)?(train|test)/' "${FILES[@]}"
list train
forbid "train/ knows nothing of test/" '#[[:space:]]*include[[:space:]]*[<"]([^>"]*/)?test/' "${FILES[@]}"

if [ $found -ne 0 ]; then
    echo "rooms.sh: lines in the wrong room (above)"
    exit 1
fi
echo "rooms.sh: every line is in its room"
