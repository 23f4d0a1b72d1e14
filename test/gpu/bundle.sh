#!/usr/bin/env bash
# bundle.sh [FOLDER]: builds gpu-bundle/, which contains everything that test/gpu.sh runs on a machine with a
# GPU, so that nothing is compiled there: programs for sm_80 and sm_90a, with PTX for newer cards, for any
# processor of this machine's architecture; test programs, golden files, scripts. The other machine needs the
# driver and at least this machine's version of glibc. JOBS: parallel compilations. A target that cannot be
# built here is left out, with a message.
set -euo pipefail
cd "$(dirname "$0")/../.."
to=${1:-gpu-bundle} build=build/bundle
most=60 # MB

flags=()
if command -v ninja > /dev/null; then flags+=(-GNinja); fi
# five programs contain the kernels; nvcc can compress them by a factor of 4 if it has this option
if nvcc --help | grep -q -e --compress-mode; then flags+=(-DCMAKE_CUDA_FLAGS=--compress-mode=size); fi
# the other machine needs no library except glibc
gomp=$(${CXX:-c++} -print-file-name=libgomp.a)
if [ -e "$gomp" ]; then flags+=(-DOpenMP_gomp_LIBRARY="$gomp"); fi
for library in pcre2-8 utf8proc; do
    archive=$(${CXX:-c++} -print-file-name=lib$library.a)
    variable=$(echo "${library%-8}" | tr '[:lower:]' '[:upper:]')_LIBRARY
    if [ -e "$archive" ]; then flags+=("-D$variable=$archive"); else flags+=(-DMOBA_UNICODE=OFF); fi
done
# the linker removes functions that a program does not call
flags+=("-DCMAKE_CXX_FLAGS=-ffunction-sections -fdata-sections")
cmake -S . -B "$build" "${flags[@]}" -DMOBA_CUDA=ON "-DMOBA_ARCHS=80;90a" -DMOBA_NATIVE=OFF -DMOBA_BLAS=OFF -DMOBA_MPI=OFF -DMOBA_TEST_ROOT=. \
    -DCMAKE_EXE_LINKER_FLAGS="-static-libstdc++ -static-libgcc -Wl,--gc-sections"

rm -rf "$to"
mkdir -p "$to"/build/{test,simt}
for target in moba kernel_test_gpu golden_test curand_test moba_simt kernel_test golden_test_simt; do
    program=test/$target
    case $target in
        moba) program=moba ;;
        moba_simt) program=simt/moba ;;
    esac
    if cmake --build "$build" -j "${JOBS:-2}" --target $target; then
        strip -o "$to/build/$program" "$build/$program"
    else
        echo "bundle.sh: no $target" >&2
    fi
done

# the files that the scripts and tests read
cp --parents train/configs/*.json data/*.txt test/gpu.sh test/gpu/*.sh test/lab/*.txt test/python/sdpa.py test/python/torch_step.py "$to"
cp -r --parents test/golden "$to"
if [ -n "${MOBA_GOLDEN_DIR:-}" ]; then cp "$MOBA_GOLDEN_DIR"/*.safetensors "$to/test/golden"; fi
echo "bundle of commit $(git describe --always --dirty), built on $(date -I) by $(nvcc --version | grep -o 'release.*' | head -n 1)" > "$to/bundle.txt"

du -ch --apparent-size "$to"/build/* "$to"/build/test/* "$to"/test/* | sort -k2
size=$(du -sm --apparent-size "$to" | cut -f 1)
if [ "$size" -gt $most ]; then
    echo "bundle.sh: $size MB, more than $most" >&2
    exit 1
fi
echo "$to: $size MB of at most $most"
