"""Writes test/huggingface/decoders.json: small tokenizers of every kind of decoder, lists of ids, and the text that
Hugging Face's tokenizers make of them.

    python3 test/python/decoders.py        (needs the package tokenizers)"""
import json
import os
import random

from tokenizers import Tokenizer

BLANK = "\u2581"


def byte_letters():
    following, letters = 256, []
    for b in range(256):
        seen = 33 <= b <= 126 or 161 <= b <= 172 or b >= 174
        letters.append(chr(b if seen else following))
        following += not seen
    return letters


def replace(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def sequence(*decoders):
    return {"type": "Sequence", "decoders": list(decoders)}


def metaspace(**more):
    return {"type": "Metaspace", "replacement": BLANK, **more}


FALLBACK, FUSE = {"type": "ByteFallback"}, {"type": "Fuse"}
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
WORDS = ["bird", "s", "sing", "##s", "##ing", "a</w>", "b</w>", "</w>", BLANK, BLANK + "the", BLANK * 2, "x" + BLANK + "y",
         ".", ",", "?", "n't", "'m", "do", " do not", "'s", "é", "語", "😀", " ", "  two", "<0x0A>", "<0xC3>", "<0xA9>", "<0x41>",
         "<0xZZ>", "<0x1>", "Ġ", "Ċ", "ĠÃ©"]
DECODERS = [None, LEVEL, FALLBACK, FUSE, {"type": "BPEDecoder", "suffix": "</w>"}, metaspace(), metaspace(prepend_scheme="never"),
            metaspace(prepend_scheme="first"), metaspace(prepend_scheme="always", split=True),
            {"type": "WordPiece", "prefix": "##", "cleanup": True}, {"type": "WordPiece", "prefix": "##", "cleanup": False},
            replace(BLANK, " "), replace("s", ""), STRIP, {"type": "Strip", "content": BLANK, "start": 2, "stop": 0},
            sequence(replace(BLANK, " "), FALLBACK, FUSE), sequence(replace(BLANK, " "), FALLBACK, FUSE, STRIP),
            sequence(STRIP, replace(BLANK, " ")), sequence(LEVEL), sequence(FALLBACK, metaspace())]


def tokenizer(kind, decoder, pieces):
    added = [{"id": len(pieces), "content": "<end>", "special": True, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False},
             {"id": len(pieces) + 1, "content": "<a name>", "special": False, "single_word": False, "lstrip": False,
              "rstrip": False, "normalized": False}]
    model = {"type": kind, "vocab": {p: i for i, p in enumerate(pieces)}}
    if kind == "BPE":
        model.update(merges=[], unk_token=None, byte_fallback=False)
    elif kind == "WordPiece":
        model.update(unk_token="s", continuing_subword_prefix="##", max_input_chars_per_word=100)
    elif kind == "WordLevel":
        model.update(unk_token="s")
    else:
        model = {"type": kind, "unk_id": 0, "vocab": [[p, -1.0] for p in pieces], "byte_fallback": False}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": None, "post_processor": None, "decoder": decoder, "model": model}


def main():
    draw, cases = random.Random(1), []
    for decoder in DECODERS:
        for kind in ["BPE", "WordLevel", "WordPiece", "Unigram"]:
            pieces = WORDS + (byte_letters() if decoder in (LEVEL, sequence(LEVEL)) else [])
            pieces = list(dict.fromkeys(pieces))
            t = tokenizer(kind, decoder, pieces)
            reference, texts = Tokenizer.from_str(json.dumps(t)), []
            while len(texts) < 6:
                ids = [draw.randrange(len(pieces) + 4) for _ in range(draw.randrange(0, 12))]
                text = reference.decode(ids, skip_special_tokens=True)
                if "\ufffd" not in text:  # there this project keeps the bytes
                    texts.append([ids, text])
            cases.append({"tokenizer": t, "texts": texts})
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "huggingface", "decoders.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(cases, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


main()
