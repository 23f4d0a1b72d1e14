#!/usr/bin/env bash
# Compiles every .cu with nvcc for sm_80 and sm_90a; warnings, spills and local memory are errors. Exit status 77: SKIPPED, no nvcc.
set -u
cd "$(dirname "$0")/.." || exit 2
if ! command -v nvcc > /dev/null; then
    echo "SKIPPED: no nvcc"
    exit 77
fi
compile() {
    nvcc -std=c++20 -O3 -I . -Xcompiler -Wall,-Wextra --Werror all-warnings \
        -Xptxas --warn-on-spills,--warn-on-local-memory-usage,--warning-as-error \
        -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a -c "$1" -o /dev/null && echo "$1"
}
export -f compile
printf '%s\n' moba/*.cu | xargs -P "$(nproc)" -I{} bash -c 'compile {}'
