#!/usr/bin/env python3
"""Text files -> .bin shards of token ids, as `moba train --data` reads them (data/README.md has the format).

    data/prepare_text.py book.txt notes/*.txt --out data/books              # bytes, vocabulary 257
    data/prepare_text.py web.jsonl --tokenizer tokenizer.json --out data/web # needs the package `tokenizers`
    data/prepare_text.py --tokenizer tokenizer.json --encode "Once upon"    # ids for moba sample --prompt-ids

Each file is a document; --split-on TEXT cuts one into several; of a .jsonl file each line is one, under "text".
The last --val-share of the tokens goes to val_*.bin. The folder appears only when it is whole. Standard library only,
but for --tokenizer.
"""
import argparse
import array
import hashlib
import json
import os
import shutil
import sys

END_NAMES = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[SEP]")
FORMATS = {2: (20240520, 1, "H"), 4: (20240801, 7, "I")}  # bytes of an id: magic, version, array code


def fail(message):
    sys.exit("prepare_text.py: " + message)


class Bytes:
    name, vocab_size, end_token = "bytes", 257, 256

    def encode(self, data):
        return data


class Tokenizer:
    name = "tokenizer.json"

    def __init__(self, path, end_name):
        try:
            from tokenizers import Tokenizer as Reader
        except ImportError:
            fail("--tokenizer needs the package `tokenizers` (pip install tokenizers)")
        try:
            self.reader = Reader.from_file(path)
        except Exception as e:
            fail(f"{path}: {e}")
        self.vocab_size = self.reader.get_vocab_size()
        names = [end_name] if end_name else END_NAMES
        found = [i for i in map(self.reader.token_to_id, names) if i is not None]
        if not found:
            fail(f"{path}: has none of the end tokens {', '.join(names)}; name one with --end-token")
        self.end_token = found[0]
        self.vocab_size = max(self.vocab_size, self.end_token + 1)

    def encode(self, data):
        return self.reader.encode(data.decode("utf-8", "replace"), add_special_tokens=False).ids


def documents(path, split_on):
    if path.endswith(".jsonl"):
        with open(path, "rb") as f:
            for number, line in enumerate(f, 1):
                try:
                    yield json.loads(line)["text"].encode()
                except (ValueError, KeyError, TypeError, AttributeError):
                    fail(f'{path}:{number}: not a JSON object with a string under "text"')
        return
    with open(path, "rb") as f:
        data = f.read()
    yield from (d for d in (data.split(split_on) if split_on else [data]) if d)


def sha256(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while part := f.read(1 << 20):
            h.update(part)
    return h.hexdigest()


class Shards:
    """Writes ids to NAME_000000.bin, NAME_000001.bin, ..., each with its header."""

    def __init__(self, folder, id_bytes, limit):
        self.folder, self.limit = folder, limit
        self.magic, self.version, self.code = FORMATS[id_bytes]

    def write(self, name, ids):
        for number, first in enumerate(range(0, len(ids), self.limit)):
            part = array.array(self.code, ids[first:first + self.limit])
            header = array.array("i", [self.magic, self.version, len(part)] + [0] * 253)
            if sys.byteorder == "big":
                part.byteswap(), header.byteswap()
            with open(os.path.join(self.folder, f"{name}_{number:06d}.bin"), "wb") as f:
                f.write(header.tobytes())
                f.write(part.tobytes())
                f.flush()
                os.fsync(f.fileno())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("files", nargs="*", metavar="FILE")
    p.add_argument("--out", metavar="DIR", help="a new folder for the shards and tokens.json")
    p.add_argument("--tokenizer", metavar="FILE", help="a tokenizer.json of Hugging Face's; without it, bytes")
    p.add_argument("--end-token", metavar="TOKEN", help="that stands between documents (with --tokenizer)")
    p.add_argument("--split-on", metavar="TEXT", help="cut files into documents at this text, e.g. '<|endoftext|>'")
    p.add_argument("--val-share", type=float, default=0.1, help="of the tokens, from their end (default 0.1)")
    p.add_argument("--shard-tokens", type=int, default=100_000_000, help="of one file (default 100 million)")
    p.add_argument("--encode", metavar="TEXT", help="print the ids of TEXT, no more")
    o = p.parse_args()
    tokenizer = Tokenizer(o.tokenizer, o.end_token) if o.tokenizer else Bytes()
    if o.encode is not None:
        print(",".join(map(str, tokenizer.encode(o.encode.encode()))))
        return
    if not o.files or not o.out:
        p.error("name at least one FILE, and --out")
    if not 0 <= o.val_share < 1 or o.shard_tokens < 1:
        p.error("--val-share must be at least 0 and less than 1, --shard-tokens at least 1")
    if os.path.exists(o.out):
        fail(f"{o.out}: is there already")

    # An end token before every document and after the last one: it ends the one and starts the next.
    ids, count, sources = array.array("I"), 0, []
    try:
        for path in o.files:
            for document in documents(path, o.split_on.encode() if o.split_on else None):
                ids.append(tokenizer.end_token)
                ids.extend(tokenizer.encode(document))
                count += 1
            name = os.fsencode(os.path.basename(path)).decode("utf-8", "replace")
            sources.append({"file": name, "sha256": sha256(path)})
    except OSError as e:
        fail(f"{e.filename}: {e.strerror}")
    if not count:
        fail("no text in these files")
    ids.append(tokenizer.end_token)
    tokenizer.vocab_size = max(tokenizer.vocab_size, max(ids) + 1)  # a vocabulary may have gaps
    cut = len(ids) - int(o.val_share * len(ids))

    tmp = f"{o.out.rstrip('/')}.tmp{os.getpid()}"
    try:
        os.makedirs(tmp)
        shards = Shards(tmp, 2 if tokenizer.vocab_size <= 65536 else 4, o.shard_tokens)
        shards.write("train", ids[:cut])
        shards.write("val", ids[cut:])
        if o.tokenizer:
            shutil.copyfile(o.tokenizer, os.path.join(tmp, tokenizer.name))
        about = {"vocab_size": tokenizer.vocab_size, "end_token": tokenizer.end_token, "tokenizer": tokenizer.name,
                 "documents": count, "train_tokens": cut, "val_tokens": len(ids) - cut, "source": sources}
        with open(os.path.join(tmp, "tokens.json"), "w") as f:
            json.dump(about, f, indent=2)
            f.write("\n")
        os.rename(tmp, o.out)
    except OSError as e:
        shutil.rmtree(tmp, ignore_errors=True)
        fail(f"{o.out}: {e.strerror}")
    print(f"{o.out}: {count} documents, {cut} tokens to learn from, {len(ids) - cut} to validate, "
          f"vocabulary {tokenizer.vocab_size}")
    val = f" --val-data {o.out}/val_*.bin" if cut < len(ids) else ""
    print(f"moba train --data {o.out}/train_*.bin{val}")


main()
