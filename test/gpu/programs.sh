# Finds the programs of test/gpu.sh, in a bundle or built here. Sets $moba, $tests, $bundle.
# shellcheck shell=bash disable=SC2034,SC2154 # names that the other files use, or set

find_programs() {
    bundle=''
    if [ -e bundle.txt ]; then
        bundle=$PWD
    elif [ -e gpu-bundle/bundle.txt ]; then
        bundle=$PWD/gpu-bundle
    fi
    if [ "${MOBA_BUILD-}" != '' ]; then
        bundle=''
        build=$MOBA_BUILD
    elif [ "$bundle" != '' ]; then
        build=$bundle/build
        head -n 1 "$bundle/bundle.txt"
    else
        build=build/$(simulated || echo gpu)
    fi
    tests=$build/test moba=$build/moba
    if simulated; then moba=$build/simt/moba; fi
    moba=${MOBA_PROGRAM:-$moba}
    export MOBA_GOLDEN_DIR=${MOBA_GOLDEN_DIR:-test/golden}
    if [ -d deps/golden ]; then MOBA_GOLDEN_DIR=deps/golden; fi

    # cuBLASLt and NCCL installed by pip, which the program uses if the system has none
    local python folder
    for python in $pythons; do
        for folder in "$($python -c 'import nvidia; print(list(nvidia.__path__)[0])' 2> /dev/null)"/*/lib; do
            if compgen -G "$folder/libcublasLt.so.*" > /dev/null || compgen -G "$folder/libnccl.so.*" > /dev/null; then
                export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
            fi
        done
    done
}
pythons='python3 /opt/torch/.venv/bin/python3 /opt/conda/bin/python3'

# Builds each target separately: one that cannot be built, or is unknown here, gives one row.
unit_build() {
    local generator='' target
    if ! command -v nvcc > /dev/null; then export PATH=$PATH:/usr/local/cuda/bin; fi
    if command -v ninja > /dev/null; then generator=-GNinja; fi
    check configure 60 cmake -S . -B "$build" $generator -DMOBA_CUDA=ON -DMOBA_BLAS=OFF
    for target in moba kernel_test_gpu golden_test curand_test; do
        part "build $target" 300 cmake --build "$build" -j "$(nproc)" --target $target
        if grep -qE "unknown target|No rule to make target '$target'" "$said"; then
            row "build $target" - "not known here" SKIPPED
        elif verdict "build $target"; then
            row "build $target" "$took s" "exit status 0" ok
        fi
    done
}
