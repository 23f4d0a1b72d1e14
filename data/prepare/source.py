"""Files to documents. Text is never changed in silence: what is not valid is refused with its place, or, with
--replace-invalid, replaced and counted."""
import codecs
import hashlib
import itertools
import json
import os
import re

from prepare.messages import fail, note
from prepare.shards import FORMATS

HALVES = "[\ud800-\udfff]"  # of surrogate pairs; in an argument, bytes that are not UTF-8
BLOCK = 1 << 17  # bytes or characters at a time
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
UNPACK = "is compressed; unpack it first, for example with "
NOT_TEXT = {
    b"\x1f\x8b": UNPACK + "gzip -d", b"BZh": UNPACK + "bzip2 -d", b"\xfd7zXZ\0": UNPACK + "xz -d",
    b"\x28\xb5\x2f\xfd": UNPACK + "zstd -d", b"\x04\x22\x4d\x18": UNPACK + "lz4 -d",
    b"PK\3\4": UNPACK + "unzip", b"PAR1": "is a Parquet file, not text", b"%PDF-": "is a PDF file, not text",
    **{magic.to_bytes(4, "little"): "holds token ids already" for magic, *_ in FORMATS.values()}}


def by_first_bytes(table, data):
    return next((value for start, value in table.items() if data.startswith(start)), None)


class Source:
    """A file. Its parts() are pairs: text (or bytes), and whether a document ends with it."""

    def __init__(self, path, options):
        self.path, self.options = path, options
        self.is_json = options.jsonl or path.lower().endswith((".jsonl", ".ndjson", ".json"))
        self.hash, self.documents, self.replaced = hashlib.sha256(), 0, 0

    def parts(self):
        blocks = self.read()
        head = next(blocks, b"")
        if what := by_first_bytes(NOT_TEXT, head):
            fail(f"{self.path}: {what}")
        texts = itertools.chain([head], blocks)
        mark = by_first_bytes(BYTE_ORDER_MARKS, head)
        encoding = mark or self.options.encoding
        if mark and self.options.encoding:
            note(f"{self.path}: is read as {mark}, which its byte order mark says")
        if not encoding and (self.is_json or self.options.tokenizer):
            encoding = "utf-8"
        if encoding:
            texts = self.decode(texts, encoding)
        if self.is_json:
            return self.json_parts(texts)
        separator = self.options.split_on
        return split(texts, os.fsencode(separator) if separator and not encoding else separator)

    def read(self):
        try:
            with open(0 if self.path == "-" else self.path, "rb") as f:
                while block := f.read(BLOCK):
                    self.hash.update(block)
                    yield block
        except OSError as e:
            fail(f"{self.path}: {e.strerror}")

    def decode(self, blocks, encoding):
        codecs.register_error("counted", self.replace)
        errors = "counted" if self.options.replace_invalid else "strict"
        decoder = codecs.getincrementaldecoder(encoding)(errors)
        size, line = 0, 1
        for block in itertools.chain(blocks, [b""]):
            size += len(block)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as e:
                line += e.object[:e.start].decode(e.encoding, "ignore").count("\n")
                fail(f"{self.path}:{line}: byte {size - len(e.object) + e.start} of the file (0x"
                     f"{e.object[e.start]:02x}) is not {e.encoding}: {e.reason}; --encoding names another "
                     "encoding, for example latin-1; --replace-invalid puts U+FFFD in its place")
            except UnicodeError as e:
                fail(f"{self.path}: {e}")
            if size == len(block) and text.count("\0") > len(text) // 8:
                fail(f"{self.path}: is full of zero bytes: it is not text, or it is UTF-16 without a byte "
                     "order mark (--encoding utf-16-le)")
            line += text.count("\n")
            yield text

    def replace(self, error):
        self.replaced += error.end - error.start
        return "\ufffd", error.end

    def json_parts(self, texts):
        number, line = 1, []
        for text, ends in split(texts, "\n"):
            line.append(text)
            if ends:
                whole, line = "".join(line).strip(), []
                text = self.json_text(whole, f"{self.path}:{number}: ") if whole else ""
                for i in range(0, len(text), BLOCK):
                    yield text[i:i + BLOCK], i + BLOCK >= len(text)
                number += 1

    def json_text(self, line, place):
        key = self.options.text_key
        if line.startswith("["):
            fail(place + "is a JSON list; each line must be one object (jq -c '.[]' FILE)")
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as e:
            fail(f"{place}is not JSON: {getattr(e, 'msg', e)}; each line must be one object (jq -c . FILE)")
        if not isinstance(value, dict):
            fail(f"{place}is not a JSON object: {json.dumps(value)[:40]}")
        if key not in value:
            keys = ", ".join(map(json.dumps, value))[:200] or "none"
            fail(f"{place}has no key {json.dumps(key)}; its keys: {keys}; --text-key names another")
        if not isinstance(value[key], str):
            fail(f"{place}{json.dumps(key)} is not a string: {json.dumps(value[key])[:40]}")
        text, halves = re.subn(HALVES, "\ufffd", value[key])
        if halves and not self.options.replace_invalid:
            half = ascii(re.search(HALVES, value[key])[0])[1:-1]
            fail(f"{place}{half} is half of a surrogate pair, which is no character; --replace-invalid puts "
                 "U+FFFD in its place")
        self.replaced += halves
        return text


def split(parts, separator):
    """Cuts at the separator, which may lie across two parts; None does not cut."""
    rest, kept = None, len(separator) - 1 if separator else 0
    for part in parts:
        rest = part if rest is None else rest + part
        if separator:
            *whole, rest = rest.split(separator)
            yield from ((text, True) for text in whole)
        if len(rest) > kept:
            yield rest[:len(rest) - kept], False
            rest = rest[len(rest) - kept:]
    yield rest, True
