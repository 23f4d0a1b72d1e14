#!/usr/bin/env python3
"""Text -> .bin shards of token ids, which `moba train --data` reads.

  data/prepare_text.py book.txt notes/*.txt --out data/books
  data/prepare_text.py web.jsonl --tokenizer tokenizer.json --out data/web
  gzip -dc web.jsonl.gz | data/prepare_text.py - --jsonl --out data/web
  data/prepare_text.py --tokenizer tokenizer.json --encode "Once upon"

Each file is a document; --split-on TEXT cuts one into several. Of a .jsonl,
.ndjson or .json file each line is an object with a document under "text".
- is the standard input. The last --val-share of the tokens goes to val_*.bin.
The folder appears only when it is whole.

Without --tokenizer the tokens are the bytes of the files. With it (it needs
the package `tokenizers`) text must be UTF-8, or have the encoding of its byte
order mark or of --encoding. An end token stands between documents; a begin
token before each one if the tokenizer puts one, and so it does in the ids of
--encode, which `moba sample --prompt-ids` takes. Names of special tokens in a
text are text like any other, unless --special-tokens is given.
"""
import argparse
import codecs
import json
import os
import re
import shlex
import shutil
import signal
import sys

from prepare.encoder import END_NAMES, Bytes, Tokenizer
from prepare.messages import fail, note
from prepare.shards import Shards
from prepare.source import HALVES, Source


def fill(folder, o, tokenizer):
    """Writes everything into the folder; returns what tokens.json says."""
    shards = Shards(folder, tokenizer.vocab_size, o.shard_tokens)
    sources, separators = [Source(path, o) for path in o.files], 0
    for source in sources:
        started = False
        separators -= not source.is_json
        for text, ends in source.parts():
            ids = tokenizer.encode(text, ends)
            if ids and not started:
                # The end token ends the document before it and starts this one.
                shards.add([tokenizer.end, *tokenizer.begin])
                source.documents += 1
            shards.add(ids)
            started = not ends and (started or bool(ids))
            separators += ends and not source.is_json
    if not shards.count:
        fail("no text in these files")
    shards.add([tokenizer.end])
    for source in sources:
        if not source.documents:
            note(f"{source.path}: no text in it")
        if source.replaced:
            note(f"{source.path}: U+FFFD stands for {source.replaced} invalid bytes or halves of surrogate pairs")
    for message in tokenizer.notes:
        note(message)
    if o.split_on and separators == 0:
        hint = " (in bash, $'\\n' is the end of a line)" if "\\" in o.split_on else ""
        note(f"--split-on: this text was not found in any plain file{hint}")
    cut = shards.count - int(o.val_share * shards.count)
    shards.write("train", 0, cut)
    shards.write("val", cut, shards.count)
    shards.close()
    if o.tokenizer:
        with open(os.path.join(folder, tokenizer.name), "wb") as f:
            f.write(tokenizer.file)
    names = [os.fsencode(os.path.basename(s.path)).decode("utf-8", "replace") for s in sources]
    about = {"vocab_size": tokenizer.vocab_size, "end_token": tokenizer.end, "begin_tokens": tokenizer.begin,
             "tokenizer": tokenizer.name, "documents": sum(s.documents for s in sources), "train_tokens": cut,
             "val_tokens": shards.count - cut,
             "source": [{"file": name, "sha256": s.hash.hexdigest()} for name, s in zip(names, sources)]}
    with open(os.path.join(folder, "tokens.json"), "w") as f:
        json.dump(about, f, indent=2)
        f.write("\n")
    return about


def read_options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    def option(name, metavar, text, **more):
        more.update({"metavar": metavar} if metavar else {"action": "store_true"})
        p.add_argument(name, help=text, **more)
    p.add_argument("files", nargs="*", metavar="FILE")
    option("--out", "DIR", "a new folder for the shards and tokens.json")
    option("--tokenizer", "FILE", "a tokenizer.json of Hugging Face's; without it, bytes")
    option("--begin-token", "TOKEN", "before each document, '' for none (default: the tokenizer's)")
    option("--end-token", "TOKEN", "between documents (default: the tokenizer's)")
    option("--special-tokens", None, "names of special tokens in a text become these tokens")
    option("--split-on", "TEXT", "cut files into documents at this text, e.g. '<|endoftext|>'")
    option("--jsonl", None, "read every FILE as .jsonl, whatever its name")
    option("--text-key", "KEY", "of the document in its object (default text)", default="text")
    option("--encoding", "NAME", "of files without a byte order mark, e.g. latin-1")
    option("--replace-invalid", None, "put U+FFFD for bytes that are not in the encoding, and count them")
    option("--val-share", "SHARE", "of the tokens, from their end (default 0.1)", type=float, default=0.1)
    option("--shard-tokens", "N", "of one shard (default 100 million)", type=int, default=100_000_000)
    option("--encode", "TEXT", "print the ids of TEXT, no more")
    o = p.parse_args()
    if o.encode is None and not (o.files and o.out):
        p.error("name at least one FILE, and --out")
    if o.encode is not None and (o.files or o.out):
        p.error("--encode prints ids, no more: leave FILE and --out out")
    if not o.tokenizer and (o.begin_token is not None or o.end_token is not None or o.special_tokens):
        p.error("--begin-token, --end-token and --special-tokens need --tokenizer")
    if o.split_on == "" or o.end_token == "":
        p.error("--split-on and --end-token must not be empty")
    if not 0 <= o.val_share < 1 or not 1 <= o.shard_tokens < 1 << 31:
        p.error("--val-share must be at least 0 and less than 1, --shard-tokens from 1 to 2147483647")
    try:
        b"    ".decode(o.encoding or "utf-8", "ignore")
        codecs.getincrementaldecoder(o.encoding or "utf-8")
    except (LookupError, ValueError) as e:
        p.error(f"--encoding {o.encoding}: {e}")
    return o


def main():
    o = read_options()
    tokenizer = Tokenizer(o) if o.tokenizer else Bytes()
    if o.encode is not None:
        if o.tokenizer and re.search(HALVES, o.encode):
            fail("--encode: the text is not UTF-8")
        ids = tokenizer.encode(o.encode if o.tokenizer else os.fsencode(o.encode), True)
        print(",".join(map(str, [*tokenizer.begin, *ids])))
        for message in tokenizer.notes:
            note(message)
        return
    if tokenizer.end is None:
        fail(f"{o.tokenizer}: has none of the end tokens {', '.join(END_NAMES)}; name one with --end-token")
    if os.path.lexists(o.out):
        fail(f"{o.out}: is there already")
    tmp = f"{o.out.rstrip('/')}.tmp{os.getpid()}"
    try:
        os.makedirs(tmp)
        about = fill(tmp, o, tokenizer)
        os.rename(tmp, o.out)
    except OSError as e:
        fail(f"{o.out}: {e.strerror}")
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    print(f"{o.out}: {about['documents']} documents, {about['train_tokens']} tokens to learn from, "
          f"{about['val_tokens']} to validate, vocabulary {about['vocab_size']}")
    out = shlex.quote(o.out.rstrip("/"))
    val = f" --val-data {out}/val_*.bin" if about["val_tokens"] else ""
    print(f"moba train --data {out}/train_*.bin{val}")


for number in (signal.SIGTERM, signal.SIGHUP):  # a folder that is not whole is removed
    if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
sys.stdout.reconfigure(errors="surrogateescape")  # the name of the folder may be any bytes
try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
