#!/usr/bin/env bash
# Checks the structure of the sources (CONTRIBUTING.md). Prints each line that breaks a rule, and fails if
# there is one.
#   folders     a folder may include only folders in the lines above its own line in $layers; folders in the
#               same line must not include each other
#   CUDA        .cpp and .h files never include CUDA headers; the only #ifdef for CUDA is in moba/op_table.cpp
#   width       comments fit in the 110 columns of the code
#   namespace   every file of moba/ and train/ is in namespace moba, and no two files define a type of the
#               same name there: two types of one name are undefined behaviour, and no compiler warns
# To check another tree, name its folder as the argument.
set -u
cd "${1:-$(dirname "$0")/..}" || exit 2
problems=$(mktemp)
trap 'rm -f "$problems"' EXIT
layers='moba/core
moba/ops moba/attention
moba
train/core
train/tasks train/files train/display
train/options train/tokenizer
train/data
train/run
train/eval train/bench train/inspect train/plot
train/compare train/lab
train/plan
train
test/simt
docs/course
test/support
test/core test/ops test/attention test/model test/train test/kernels test/lab test/judge test/judge/planted test/fuzz test/mpi'

# report REASON: prints the lines of standard input, each with the reason, and adds them to $problems
report() { sed "s|\$|    <- $1|" | tee -a "$problems"; }
# matches PATTERN FILES...: grep; it is no error if nothing matches
matches() {
    grep -HnE -e "$@"
    [ $? -le 1 ] || { echo "layers.sh: grep failed on: $*" >&2; kill $$; }
}

mapfile -t cpp < <(find moba train test -path test/simt -prune -o \( -name '*.cpp' -o -name '*.h' \) -print | sort)
mapfile -t cu < <(find moba test -path test/simt -prune -o \( -name '*.cu' -o -name '*.cuh' \) -print | sort)
if [ ${#cpp[@]} -lt 100 ] || [ ${#cu[@]} -lt 20 ]; then
    echo "layers.sh: only ${#cpp[@]} and ${#cu[@]} files found"
    exit 2
fi

cuda='#[[:space:]]*include[[:space:]]*[<"]([^>"]*\.cuh|cuda[^>"]*|cublas[^>"]*|curand[^>"]*|nccl[^>"]*|nv[^>"]*|mma\.h)[>"]'
matches "$cuda" "${cpp[@]}" | report "a CUDA header outside .cu"
# moba/core/base.h defines HOST_DEVICE, for functions that kernels and the CPU share
matches '__global__|__device__|<<<' "${cpp[@]}" | grep -v '^moba/core/base\.h:' | report "a kernel outside .cu"
matches 'MOBA_CUDA' "${cpp[@]}" | grep -v '^moba/op_table\.cpp:' | report "MOBA_CUDA outside moba/op_table.cpp"

# Each line that includes a file of a folder that is not lower: "file: included"
grep -HE '^[[:space:]]*#[[:space:]]*include "' "${cpp[@]}" "${cu[@]}" | awk -v layers="$layers" '
    function folder(path) { return match(path, "/[^/]*$") ? substr(path, 1, RSTART - 1) : "." }
    BEGIN {
        n = split(layers, line, "\n")
        for (i = 1; i <= n; i++) { m = split(line[i], name, " "); for (j = 1; j <= m; j++) level[name[j]] = i }
    }
    {
        file = $0; sub(":.*", "", file)
        there = $0; sub("^[^\"]*\"", "", there); sub("\".*", "", there)
        from = folder(file); to = folder(there)
        if (!(from in level)) print file ": the folder " from " is not in the list"
        else if (!(to in level)) print file ": includes " there ", which is in no folder of the list"
        else if (from != to && level[to] >= level[from]) print file ": includes " there
    }' | report "upwards, or sideways"

for f in "${cpp[@]}" "${cu[@]}"; do
    case $f in moba/* | train/*) grep -q '^namespace moba {' "$f" || echo "$f" ;; esac
done | report "not in namespace moba"

# Types that begin in the first column, outside of unnamed namespaces: "name file:line"
awk '
    FNR == 1 { unnamed = 0; inside = "" }
    /^namespace \{/ { unnamed = 1 }
    /^namespace [a-z_:]+ \{/ { if ($2 != "moba") inside = $2 "::" }
    /^\}  \/\/ namespace$/ { unnamed = 0 }
    /^\}  \/\/ namespace [a-z_:]+$/ { inside = "" }
    !unnamed && /^(struct|class|enum class|enum|union) [A-Za-z_0-9]+ ([:{]|final)/ {
        name = $2; if ($1 == "enum" && $2 == "class") name = $3
        print inside name, FILENAME ":" FNR
    }' "${cpp[@]}" "${cu[@]}" | sort | awk '$1 == last { print first; print } { last = $1; first = $0 }' | sort -u |
    report "a type of the same name in two files"

# clang-format wraps code and leaves comments alone. These files hold CSS and JavaScript.
LC_ALL=C.UTF-8 grep -HnE '^.{111,}$' "${cpp[@]}" "${cu[@]}" |
    grep -vE '"|^train/(display/html|display/svg_style|inspect/inspect_page)\.cpp|^train/(inspect/inspect|lab/lab)_script\.h' |
    report "a line of more than 110 columns"

if [ -s "$problems" ]; then
    echo "layers.sh: lines where they do not belong (above)"
    exit 1
fi
echo "layers.sh: every line is where it belongs"
