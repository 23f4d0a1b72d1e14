#!/usr/bin/env bash
# test/other_libraries.sh FOLDER: downloads CLI11, nlohmann/json and GoogleTest of another release of this
# system, older or newer, into FOLDER, in the form of `make deps-bundle`. -DMOBA_DEPS=FOLDER builds with them.
# Nothing is installed. Exit status 77: SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/.."
to=$(realpath -m "$1")

# Each pair has an older generation (CLI11 2.1, GoogleTest 1.12) and a newer one (CLI11 2.4, GoogleTest 1.14
# and later).
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
case $codename in
    bookworm) other=trixie ;;
    trixie) other=bookworm ;;
    jammy) other=noble ;;
    noble) other=jammy ;;
    *) echo "SKIPPED: no other release is known for ${codename:-this system}"; exit 77 ;;
esac
mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI) $(SIGNED_BY)' 'Created-By: Packages' | grep -m1 "^$codename ") ||
    { echo "SKIPPED: apt knows no mirror of $codename (apt-get update)"; exit 77; }
read -r _ uri key <<<"$mirror"
if [ "$key" = '$(SIGNED_BY)' ]; then key=; fi # apt prints this if it is not set

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial}
echo "deb ${key:+[signed-by=$key]} $uri $other main $([ "$codename" = noble ] || [ "$codename" = jammy ] && echo universe)" > "$work/sources.list"
apt() { # apt with separate lists
    apt-get -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$work/lists" \
        -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)" "$@"
}
cd "$work"
if ! { apt update && apt download libcli11-dev nlohmann-json3-dev googletest; } > log 2>&1; then
    cat log
    echo "SKIPPED: the packages of $other cannot be reached"
    exit 77
fi
for package in *.deb; do dpkg-deb -x "$package" files; done
cd - > /dev/null
CPATH=$work/files/usr/include GTEST_SOURCE=$work/files/usr/src/googletest test/deps.sh "$to"
echo "the libraries of $other: $(cd "$work" && ls ./*.deb | sed 's|^./||; s/_all.deb$//; s/_[^_]*.deb$//' | tr '\n' ' ')"
