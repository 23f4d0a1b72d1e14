#!/usr/bin/env bash
# Does everything that the docs name exist? Prints each line that names something missing, and fails if there is one.
#   files     a path or file name in backticks is in the tree, by its path or its base name (* stands for any characters); or it is a
#             file that the programs read or write, and their code contains its name in quotes
#   names     in docs/kernels.md: a name in backticks that contains _kernel occurs in a .cu or .cuh file; another name with an
#             underscore occurs in some source file
#   code      each line of a ```cpp block is in some source file, whatever the white space
#   lines     no file.cu:12, because line numbers change: name the function instead
# A folder may be named to check another tree: that is how this check was seen to fail.
set -u
cd "${1:-$(dirname "$0")/..}" || exit 2
docs=(README.md CONTRIBUTING.md data/README.md docs/*.md)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
problems=$work/problems kernels=$work/kernels sources=$work/sources

files=$(find . \( -path ./build -o -path ./out -o -path ./deps -o -path ./.git -o -path ./gpu-bundle \) -prune -o -type f -printf '%P\n')
find moba test \( -name '*.cu' -o -name '*.cuh' \) -print0 | xargs -0 cat > "$kernels"
find moba train test data \( -name '*.cu' -o -name '*.cuh' -o -name '*.h' -o -name '*.cpp' -o -name '*.py' -o -name 'CMakeLists.txt' \) -print0 | xargs -0 cat > "$sources"
if [ "$(wc -l <<< "$files")" -lt 300 ] || [ ${#docs[@]} -lt 6 ] || [ "$(wc -c < "$kernels")" -lt 100000 ]; then
    echo "docs.sh: too few files found"
    exit 2
fi

# missing LINE WORD WHY: prints and keeps a line that fails
missing() { echo "$1: $2    <- $3" | tee -a "$problems"; }
# "file:line word" for each word in backticks, outside of ``` blocks
words() {
    awk 'FNR == 1 { code = 0 }
        /^```/ { code = !code; next }
        !code { n = split($0, part, "`"); for (i = 2; i <= n; i += 2) { m = split(part[i], word, " "); for (j = 1; j <= m; j++) print FILENAME ":" FNR, word[j] } }' "$@"
}

while read -r line word; do
    [[ $word =~ [^.]\.(cu|cuh|h|cpp|sh|py|json)$ ]] || continue
    case $word in *'<'* | -* | *=* | '$'* | /* | [A-Z]*) continue ;; esac # <op>.cu, an option, a place outside the tree, FILE.json
    name=${word#./} name=${name#gpu-bundle/}
    name=${name//./\\.} name=${name//\*/[^/]*}
    grep -qE "(^|/)$name\$" <<< "$files" && continue
    [[ $word == */* ]] || ! grep -qF "\"$word\"" "$sources" || continue
    missing "$line" "$word" "no such file"
done < <(words "${docs[@]}")

while read -r line word; do
    name=${word%()}
    if [[ $name =~ ^[a-z0-9_]*_kernel[a-z0-9_]*$ ]]; then
        grep -qw -- "$name" "$kernels" || missing "$line" "$name" "no such kernel"
    elif [[ $name =~ ^_*[a-z0-9]+(_[a-z0-9]+)+$ ]]; then
        grep -qw -- "$name" "$sources" || missing "$line" "$name" "in no source file"
    fi
done < <(words docs/kernels.md)

tr -d '[:space:]' < "$sources" > "$work/packed"
while read -r line code; do
    packed=${code//[[:space:]]/}
    [ -z "$packed" ] || grep -qF -- "$packed" "$work/packed" || missing "$line" "$code" "in no source file"
done < <(awk 'FNR == 1 { code = 0 } /^```/ { code = /^```cpp/; next } code { print FILENAME ":" FNR, $0 }' "${docs[@]}")

while IFS=: read -r file line word; do
    missing "$file:$line" "$word" "a line number: name the function"
done < <(grep -onHE '[A-Za-z0-9_]+\.(cu|cuh|cpp|h):[0-9]+' "${docs[@]}")

if [ -s "$problems" ]; then
    echo "docs.sh: the docs name what does not exist (above)"
    exit 1
fi
echo "docs.sh: everything that the docs name exists"
