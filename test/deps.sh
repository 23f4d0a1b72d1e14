#!/usr/bin/env bash
# test/deps.sh [FOLDER]: copies the external sources that a build needs into FOLDER (deps), for machines
# without internet. CMakeLists.txt looks there first. If MOBA_GOLDEN_DIR names a folder, it is copied to
# deps/golden (test/gpu.sh uses it).
set -euo pipefail
cd "$(dirname "$0")/.."
to=${1:-deps}

# The folder in which the compiler finds a header, without the name of the header.
folder_of() {
    local path
    path=$(echo "#include <$1>" | ${CXX:-c++} -M -x c++ - | grep -o "[^ ]*/$1") || {
        echo "deps.sh: no $1; Debian: apt-get install $2" >&2
        exit 1
    }
    echo "${path%/"$1"}"
}
licence() { # PACKAGE: the licence as Debian installs it
    if [ -e "/usr/share/doc/$1/copyright" ]; then cp "/usr/share/doc/$1/copyright" "$to/licences/$1"; fi
}

cli=$(folder_of CLI/App.hpp libcli11-dev)
json=$(folder_of nlohmann/json.hpp nlohmann-json3-dev)
gtest=${GTEST_SOURCE:-/usr/src/googletest}
if [ ! -e "$gtest/googletest/src/gtest-all.cc" ]; then
    echo "deps.sh: no sources of GoogleTest in $gtest (GTEST_SOURCE); Debian: apt-get install googletest" >&2
    exit 1
fi
rm -rf "$to"
mkdir -p "$to/include" "$to/googletest/googletest" "$to/licences"
cp -r "$cli/CLI" "$json/nlohmann" "$to/include"
cp "$gtest/CMakeLists.txt" "$to/googletest"
cp -r "$gtest"/googletest/{CMakeLists.txt,cmake,include,src} "$to/googletest/googletest"
for package in libcli11-dev nlohmann-json3-dev googletest; do licence $package; done
if [ -n "${MOBA_GOLDEN_DIR:-}" ]; then cp -r "$MOBA_GOLDEN_DIR" "$to/golden"; fi
du -sh "$to"
