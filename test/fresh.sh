#!/usr/bin/env bash
# Tests the project on a system where nothing is installed. Needs root, debootstrap and 4 GB of disk; takes
# half an hour on two cores.
#   test/fresh.sh bookworm|trixie|noble|...   any release that debootstrap knows (Debian, Ubuntu)
# Makes the system in a folder under ${TMPDIR:-/tmp} and removes it at the end. In it: ./run.sh build, a
# training that is interrupted and resumed, make test; then everything is built again with clang. Warnings are
# errors. KEEP=1 keeps the folder. Uses this folder as it is, without the files that git ignores. Exit status
# 77: SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/.."

# ---- inside: this script, run in the new system as `fresh.sh inside` ----

say() { printf '%-58s %6s s\n' "$1" $((SECONDS - begun)) | tee -a table.txt; }
# step NAME COMMAND...: writes the output to log.txt; shows the end of it after a failure
step() {
    begun=$SECONDS
    echo "=== $*" >> log.txt
    if ! "${@:2}" >> log.txt 2>&1; then
        tail -n 60 log.txt
        say "$1: FAILED after"
        exit 1
    fi
    say "$1"
}
train=(build/moba train --config train/configs/needle.json --curriculum "" --steps 60 --save-every 5 --eval-samples 16)
interrupt() { # Ctrl-C after the first checkpoint; the run must stop with a checkpoint
    "${train[@]}" --out out/cut &
    local run=$!
    until [ -e out/cut/latest ] || ! kill -0 $run; do sleep 0.05; done
    kill -INT $run && wait $run || return 1
    ! grep -q '"step":60,' out/cut/log.jsonl || { echo "the run had ended before it was interrupted"; return 1; }
}
resume() {
    build/moba train --resume --out out/cut && "${train[@]}" --out out/whole &&
        cmp out/whole/latest/model.safetensors out/cut/latest/model.safetensors
}
# as ./run.sh test, but without the sanitizers, whose results do not depend on the system
make_test() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libgtest-dev && make test
}
clang_build() { cmake -S . -B build -DMOBA_STRICT=ON && cmake --build build -j "$(nproc)"; }
inside() {
    export MOBA_STRICT=ON # warnings are errors
    step "./run.sh build" ./run.sh build
    step "a training, interrupted" interrupt
    step "resumed, the same bits as one that was not" resume
    step "make test" make_test
    export CC=clang CXX=clang++ DEBIAN_FRONTEND=noninteractive
    step "clang" apt-get install -y -qq --no-install-recommends clang libomp-dev
    rm -rf build
    step "$(clang --version | head -n 1): everything" clang_build
    step "unit tests, built with clang" build/test/unit_test
    grep -hE 'tests passed|PASSED|\(Skipped\)' log.txt | tee -a table.txt
    dpkg-query -W g++ clang cmake libcli11-dev nlohmann-json3-dev libgtest-dev libopenblas-dev | tee -a table.txt
}
if [ "${1:-}" = inside ]; then
    inside
    exit
fi

# ---- outside ----

release=${1:-}
if [ -z "$release" ]; then
    sed -n '2,8s/^# //p' "$0"
    exit 2
fi
skip() {
    echo "SKIPPED: $1"
    exit 77
}
[ "$(id -u)" = 0 ] || skip "only root can make a system (sudo $0 $release)"
for program in debootstrap unshare chroot; do command -v $program > /dev/null || skip "no $program (Debian: apt-get install debootstrap)"; done
script=/usr/share/debootstrap/scripts/$release
# Debian 12's debootstrap is older than noble; one script serves all releases of Ubuntu
if [ "$release" = noble ]; then script=${script/noble/gutsy}; fi
[ -e "$script" ] || skip "debootstrap knows no release '$release'"
keyring=$(grep -o '/usr/share/keyrings/[a-z-]*keyring.gpg' <<<"$(sed -n 's/^keyring //p' "$script")" | head -n 1)
[ -e "$keyring" ] || skip "no $keyring (packages debian-archive-keyring, ubuntu-keyring)"

root=$(mktemp -d "${TMPDIR:-/tmp}/moba-$release-XXXXXX")
trap '[ -n "${KEEP:-}" ] || rm -rf --one-file-system "$root"' EXIT
parts=main
if grep -q ubuntu "$script"; then parts=main,universe; fi
echo "$release in $root"
if ! debootstrap --variant=minbase --components=$parts --keyring="$keyring" "$release" "$root" "" "$script" > "$root.log" 2>&1; then
    tail -n 5 "$root.log"
    if grep -q 'Failed getting release file' "$root.log"; then skip "no mirror of $release can be reached"; fi
    exit 1
fi
rm "$root.log"
mkdir "$root/moba"
git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C "$root/moba"

# In separate mount and process namespaces: mounts and processes of the new system end with it.
status=0
env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM=dumb ${http_proxy:+http_proxy="$http_proxy"} \
    unshare --mount --pid --fork --kill-child sh -c "mount --make-rprivate / && mount -t proc proc '$root/proc' &&
        mount -t tmpfs tmpfs '$root/dev/shm' && exec chroot '$root' bash /moba/test/fresh.sh inside" || status=$?
mkdir -p out/fresh
cp "$root/moba/log.txt" "out/fresh/$release.log"
cp "$root/moba/table.txt" "out/fresh/$release.txt"
echo "fresh.sh $release: $([ $status = 0 ] && echo "everything passed" || echo FAILED) after $SECONDS s; out/fresh/$release.log"
exit $status
