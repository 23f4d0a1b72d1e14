#!/usr/bin/env python3
"""data/prepare_text.py with --tokenizer: its ids beside those of the package `tokenizers`, which encodes the
whole text at once. The tokenizers are made here: of the kinds of GPT-2, Llama 2 and 3, T5 and BERT.

    prepare_text_test.py            exit status 77 (SKIPPED) if tokenizers is not installed
"""
import array
import json
import os
import random
import subprocess
import sys
import tempfile

try:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, processors, trainers
    from tokenizers import pre_tokenizers
except ImportError as e:
    print(f"SKIPPED: {e}")
    sys.exit(77)

HERE = os.path.dirname(os.path.abspath(__file__))
PREPARE = [sys.executable, "-B", os.path.join(HERE, "../../data/prepare_text.py")]
PLAYS = os.path.join(HERE, "../../data/tinyshakespeare.txt")
failures = 0


def check(what, ok, note=""):
    global failures
    failures += not ok
    print(f"{'ok    ' if ok else 'FAILED'} {what} {'' if ok else note}", flush=True)


def prepare(*words, **more):
    return subprocess.run([*PREPARE, *words], capture_output=True, text=True, **more)


def ids_of(text, tokenizer, *words, file="text.txt"):
    """The ids of a file of this text, what tokens.json says, and what was said."""
    with open(file, "w", encoding="utf-8", newline="") as f:
        f.write(text)
    with tempfile.TemporaryDirectory() as out:
        r = prepare(file, "--tokenizer", tokenizer, "--val-share", "0", "--out", f"{out}/x", *words)
        if r.returncode:
            return [], {}, r.stderr
        with open(f"{out}/x/train_000000.bin", "rb") as f, open(f"{out}/x/tokens.json") as about:
            return list(array.array("H", f.read()[1024:])), json.load(about), r.stderr


def train(name, model, trainer, parts, **settings):
    t = Tokenizer(model)
    for part, value in parts.items():
        setattr(t, part, value)
    with open(PLAYS) as f:
        t.train_from_iterator([f.read()[:100000]], trainer(vocab_size=1000, show_progress=False, **settings))
    t.save(name)


def make_tokenizers():
    letters = pre_tokenizers.ByteLevel.alphabet()
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    train("gpt2", models.BPE(), trainers.BpeTrainer,
          {"pre_tokenizer": level, "decoder": decoders.ByteLevel(), "post_processor": processors.ByteLevel()},
          special_tokens=["<|endoftext|>"], initial_alphabet=letters)
    pattern = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    words = pre_tokenizers.Split(pattern, "isolated")
    letters_of_words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    first = "<|begin_of_text|>"
    begin = processors.TemplateProcessing(single=f"{first} $A", special_tokens=[(first, 0)])
    train("llama3", models.BPE(), trainers.BpeTrainer,
          {"pre_tokenizer": pre_tokenizers.Sequence([words, letters_of_words]),
           "post_processor": processors.Sequence([processors.ByteLevel(trim_offsets=False), begin])},
          special_tokens=[first, "<|end_of_text|>"], initial_alphabet=letters)
    train("t5", models.Unigram(), trainers.UnigramTrainer,
          {"normalizer": normalizers.NFKC(), "pre_tokenizer": pre_tokenizers.Metaspace(),
           "post_processor": processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 1)])},
          special_tokens=["<unk>", "<end>", "</s>"], unk_token="<unk>")
    train("bert", models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer,
          {"normalizer": normalizers.BertNormalizer(), "pre_tokenizer": pre_tokenizers.BertPreTokenizer(),
           "post_processor": processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))},
          special_tokens=["[UNK]", "[CLS]", "[SEP]"])
    train("no_unknown", models.BPE(), trainers.BpeTrainer, {"pre_tokenizer": pre_tokenizers.Whitespace()},
          special_tokens=["<eos>"])
    # Llama 2's puts a mark before the text, and has no words: the whole text is one.
    train("llama2", models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True), trainers.BpeTrainer,
          {"pre_tokenizer": pre_tokenizers.Metaspace(),
           "post_processor": processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])},
          special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))])
    t = Tokenizer.from_file("llama2")
    t.pre_tokenizer = None
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    t.save("llama2")


def test_long_texts():
    r = random.Random(1)
    parts = ["a", " ", "  ", "\n", "\n\n", "\r\n", "\u00e9", "e\u0301", "\u4e2d", "\U0001f600", "0",
             "12", "!", "\t", "the", " King", "'s", "\ufb01", "<|endoftext|>", "</s>"]
    with open(PLAYS) as f:
        texts = {"plays": f.read()[:400000], "a mixture": "".join(r.choice(parts) for _ in range(200000)),
                 "few places to cut": " " * 150000 + "x" + "\n" * 150000 + "a" * 150000}
    around = {"gpt2": ([], 0), "llama3": ([0], 1), "llama2": ([1], 2), "t5": ([], 1), "bert": ([1], 2)}
    for name, (begin, end) in around.items():
        t = Tokenizer.from_file(name)
        t.encode_special_tokens = True
        for what, text in texts.items():
            ids, _, said = ids_of(text, name)
            want = [end, *begin, *t.encode(text, add_special_tokens=False).ids, end]
            check(f"{name}: {what}, {len(want)} ids in pieces as at once", ids == want, said)


def test_begin_and_end():
    lines = '{"text": "a"}\n{"text": "b"}\n'
    for name, words, begin, end in [
            ("gpt2", [], [], "<|endoftext|>"), ("llama2", [], ["<s>"], "</s>"),
            ("bert", [], ["[CLS]"], "[SEP]"),
            ("llama3", [], ["<|begin_of_text|>"], "<|end_of_text|>"), ("t5", [], [], "<end>"),
            ("llama2", ["--begin-token", ""], [], "</s>"), ("t5", ["--end-token", "</s>"], [], "</s>"),
            ("t5", ["--begin-token", "</s>"], ["</s>"], "<end>"),
            ("llama3", ["--end-token", "<|begin_of_text|>"], [], "<|begin_of_text|>")]:
        t = Tokenizer.from_file(name)
        a, b = (t.encode(x, add_special_tokens=False).ids for x in "ab")
        begin, end = [t.token_to_id(x) for x in begin], t.token_to_id(end)
        ids, about, said = ids_of(lines, name, *words, file="ab.jsonl")
        want = [end, *begin, *a, end, *begin, *b, end]
        check(f"{name} {words}: begin and end of documents", ids == want, ids or said)
        want = {"end_token": end, "begin_tokens": begin, "vocab_size": 1000, "documents": 2}
        check(f"{name} {words}: tokens.json", want == {key: about.get(key) for key in want}, about)
        if "--end-token" not in words:
            r = prepare("--tokenizer", name, *words, "--encode", "a")
            want = ",".join(map(str, [*begin, *a])) + "\n"
            check(f"{name} {words}: --encode", r.stdout == want, r.stdout + r.stderr)
    r = prepare("--tokenizer", "no_end", "--encode", "a")
    check("--encode without an end token", r.returncode == 0 and r.stdout != "", r.stderr)
    for words, says in [([], "none of the end tokens"), (["--end-token", "<none>"], "has no token <none>"),
                        (["--begin-token", "<none>"], "has no token <none>")]:
        _, _, said = ids_of("a", "no_end", *words)
        check(f"no_end {words}: {says}", says in said and said.count("\n") == 1, said)


def test_special_tokens():
    text = "It ends with <|endoftext|>, they say."
    t = Tokenizer.from_file("gpt2")
    with_special = [0, *t.encode(text).ids, 0]
    ids, _, said = ids_of(text, "gpt2")
    check("special tokens stay text", ids.count(0) == 2 and t.decode(ids[1:-1]) == text, ids)
    check("which is said", "<|endoftext|>" in said and said.count("\n") == 1, said)
    ids, _, said = ids_of(text, "gpt2", "--special-tokens")
    check("--special-tokens", ids == with_special and ids.count(0) == 3 and not said, said)
    for words, zeros in ([], 0), (["--special-tokens"], 1):
        ids = prepare("--tokenizer", "gpt2", "--encode", text, *words).stdout.strip().split(",")
        check(f"--encode {words}: special tokens", ids.count("0") == zeros, ids)


def test_nothing_is_lost_in_silence():
    t = Tokenizer.from_file("gpt2")
    text = "To be, or not to be. " * 40
    want = [0, *t.encode(text).ids, 0]
    t.enable_truncation(8)
    t.enable_padding(length=2000)
    t.save("cutting")
    check("a tokenizer.json that says to cut and to fill", ids_of(text, "cutting")[0] == want)
    with open("latin.txt", "wb") as f:
        f.write("To be\nat the caf\u00e9.\n".encode("latin-1"))
    with open("half.txt", "wb") as f:
        f.write("caf".encode("utf-16-le"))
    for file, says in [("latin.txt", "latin.txt:2: byte 16 of the file (0xe9) is not utf-8"),
                       ("half.txt", "UTF-16")]:
        r = prepare(file, "--tokenizer", "gpt2", "--out", "out")
        one_line = r.returncode == 1 and r.stderr.count("\n") == 1
        check(f"{file} is refused", one_line and says in r.stderr, r.stderr)
    _, _, said = ids_of("to \u4e2d be \u4e2d\u4e2d", "bert")
    check("words without a token are counted", "3 tokens are [UNK]" in said, said)
    _, _, said = ids_of("to \u4e2d be \u4e2d\u4e2d", "no_unknown")
    check("characters without a token are counted", "3 characters have no token" in said, said)
    _, _, said = ids_of("\u4e2d" * 9, "no_unknown")
    check("a text without a token", "no text in these files" in said, said)
    _, _, said = ids_of("To be, e\u0301 or not.", "t5")
    check("letters that are put together have tokens", "characters" not in said, said)
    for text in "To be, or not to be.", "to be " * 100000:
        _, _, said = ids_of(text, "no_unknown")
        check("nothing is said of blanks", said == "", said)
    r = prepare("--tokenizer", "gpt2", "--encode", b"caf\xe9")
    check("--encode of bytes that are not UTF-8", r.returncode == 1 and "not UTF-8" in r.stderr, r.stderr)
    for content in b"{}", b"", b"\xff":
        with open("wrong", "wb") as f:
            f.write(content)
        r = prepare("latin.txt", "--tokenizer", "wrong", "--out", "out")
        one_line = r.returncode == 1 and r.stderr.count("\n") == 1
        named = r.stderr.startswith("prepare_text.py: wrong: ")
        check(f"a wrong tokenizer.json: {content}", one_line and named, r.stderr)


def test_memory():
    with open(PLAYS) as f:
        text = f.read()[:200000]
    peak = {}
    for times in 1, 20:
        with open("large.txt", "w") as f:
            f.write(text * times)
        command = [*PREPARE, "large.txt", "--tokenizer", "gpt2", "--out", f"out{times}"]
        program = (f"import resource, subprocess; subprocess.run({command}, check=True, stdout=2)\n"
                   "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
        r = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        peak[times] = int(r.stdout or 0) / 1024
    check(f"memory: {peak[1]:.0f} MB for 0.2 MB of text, {peak[20]:.0f} MB for 4 MB",
          0 < peak[20] < peak[1] + 40)


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    make_tokenizers()
    with open("gpt2") as f, open("no_end", "w") as g:
        g.write(f.read().replace("<|endoftext|>", "<|other|>"))
    test_begin_and_end()
    test_special_tokens()
    test_nothing_is_lost_in_silence()
    test_long_texts()
    test_memory()
    os.chdir("/")
print(f"{failures} failed")
sys.exit(failures > 0)
