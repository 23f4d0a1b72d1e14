#!/usr/bin/env python3
"""The documentation of the Linux kernel -> train.jsonl and val.jsonl: long real documents to evaluate and to train on.

  data/linux_docs.py --out out/linux_docs
  data/linux_docs.py --deb linux-doc-6.12_6.12.90-1_all.deb --out out/linux_docs

Without --deb, apt downloads Debian's package linux-doc-6.12, about 40 MB, and
nothing is installed. Each line is a document, {"text": ..., "name": ...}: the
.rst and .txt files in English, 27 MB. Of the documents of 32 KB or more,
every fourth goes to val.jsonl, all others to train.jsonl. question.txt holds
the beginning of one of val.jsonl and a question about it. The folder appears
only when it is whole.
"""
import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

from prepare.messages import fail

PACKAGE = "linux-doc-6.12"
LONG, EVERY = 32 << 10, 4  # characters of a long document; one of so many long ones is for validation
ABOUT, QUESTION = "filesystems/overlayfs.rst", 12000  # the document of question.txt, and how many of its characters


def download(folder):
    try:
        r = subprocess.run(["apt-get", "-q", "-o", f"APT::Sandbox::User={os.environ.get('USER', 'root')}", "download", PACKAGE],
                           cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        fail(f"there is no apt-get here; name a package file of {PACKAGE} with --deb")
    packages = [os.path.join(folder, f) for f in os.listdir(folder) if f.endswith(".deb")]
    if r.returncode or not packages:
        fail(f"apt-get cannot download {PACKAGE} (no network, or another release of Debian); name a package file with --deb")
    return packages[0]


def documents(package):
    """Yields (name, text) of each document, in the order of the package."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as unpack:
        with tarfile.open(fileobj=unpack.stdout, mode="r|") as tar:
            for entry in tar:
                folder, _, name = entry.name.partition("/Documentation/")
                if not name.endswith((".rst.gz", ".txt.gz", ".rst", ".txt")) or not entry.isfile():
                    continue
                if "/html" in folder or name.startswith("translations/"):
                    continue
                data = tar.extractfile(entry).read()
                data = gzip.decompress(data) if name.endswith(".gz") else data
                yield name.removesuffix(".gz"), data.decode("utf-8", "replace")


def fill(folder, package):
    try:
        found = sorted(documents(package))
    except FileNotFoundError:
        fail("there is no dpkg-deb here, which unpacks Debian packages")
    except (tarfile.TarError, EOFError, OSError):
        fail(f"{package}: is not a whole Debian package")
    if not found:
        fail(f"{package}: holds no documents of the Linux kernel")
    counts, long_ones = {"train": [0, 0], "val": [0, 0]}, 0
    with open(os.path.join(folder, "train.jsonl"), "w", encoding="utf-8") as train, open(os.path.join(folder, "val.jsonl"), "w", encoding="utf-8") as val:
        for name, text in found:
            long_ones += len(text) >= LONG
            held_out = len(text) >= LONG and long_ones % EVERY == 0
            (val if held_out else train).write(json.dumps({"text": text, "name": name}) + "\n")
            count = counts["val" if held_out else "train"]
            count[0] += 1
            count[1] += len(text.encode())
    with open(os.path.join(folder, "question.txt"), "w", encoding="utf-8") as f:
        text = next((text for name, text in found if name == ABOUT), found[0][1])
        f.write(f"Here is the beginning of a document.\n\n{text[:QUESTION]}\n\nWhat is this document about? Answer in two sentences.")
    return counts


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", metavar="DIR", required=True, help="a new folder")
    p.add_argument("--deb", metavar="FILE", help=f"the package {PACKAGE}, already downloaded")
    o = p.parse_args()
    if os.path.lexists(o.out):
        fail(f"{o.out}: is there already")
    parent = os.path.dirname(os.path.abspath(o.out))
    os.makedirs(parent, exist_ok=True)
    tmp = tempfile.mkdtemp(dir=parent)
    try:
        counts = fill(tmp, o.deb or download(tmp))
        for file in os.listdir(tmp):
            if file.endswith(".deb"):
                os.remove(os.path.join(tmp, file))
        os.chmod(tmp, 0o755)
        os.rename(tmp, o.out)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    for name, (files, size) in counts.items():
        print(f"{o.out}/{name}.jsonl: {files} documents, {size / 1e6:.1f} MB")


main()
