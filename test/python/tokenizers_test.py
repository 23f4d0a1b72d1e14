#!/usr/bin/env python3
"""Compares `moba tokens` with Hugging Face's tokenizers: the same ids for the same tokenizer.json, on hard texts, and the time.

    tokenizers_test.py PROGRAM                     small tokenizers of every kind, trained here
    tokenizers_test.py PROGRAM FILE...             these tokenizer.json or .gguf files too, also for speed
    tokenizers_test.py --fixtures FILE             writes test/huggingface/encoders.json for unit_test
Exit status 77 (SKIPPED) if tokenizers is not installed, or the program was built without PCRE2."""
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import unicodedata

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # speed is compared on one core

from checks import check, report

try:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
except ImportError as e:
    print(f"SKIPPED: {e}")
    sys.exit(77)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace("{1,3}", "")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BLANK = "\u2581"


def corpus():
    """Real text to train on: the project's own, in several languages of code and prose."""
    texts = []
    for folder in ["docs", "moba", "train", "data"]:
        for path, _, files in sorted(os.walk(os.path.join(ROOT, folder))):
            for name in sorted(files):
                if name.endswith((".md", ".h", ".cpp", ".cu", ".py")):
                    with open(os.path.join(path, name), encoding="utf-8") as f:
                        texts.append(f.read())
    texts += ["Καλημέρα κόσμε, привет мир, こんにちは世界, 你好，世界, 안녕하세요, שלום עולם, مرحبا بالعالم, नमस्ते दुनिया. " * 20]
    return texts


def sentencepiece_rules(few):
    """The table of the normalization that SentencePiece makes of its rules; of a few rules, where all would be 240 KB."""
    try:
        import sentencepiece
        from sentencepiece import sentencepiece_model_pb2
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as tmp:
        with open(f"{tmp}/text", "w", encoding="utf-8") as f:
            f.write("\n".join(corpus()[:20]))
        rules = {"normalization_rule_name": "nmt_nfkc"}
        if few:  # ligature, circled one, half-width ka with its mark, e and accent, soft hyphen, no-break space
            with open(f"{tmp}/rules", "w") as f:
                f.write("FB01\t66 69\n2460\t31\nFF76 FF9E\t30AC\nFF76\t30AB\n65 301\tE9\nAD\t\nA0\t20\n")
            rules = {"normalization_rule_tsv": f"{tmp}/rules"}
        sentencepiece.SentencePieceTrainer.train(input=f"{tmp}/text", model_prefix=f"{tmp}/m", vocab_size=500, minloglevel=2, **rules)
        model = sentencepiece_model_pb2.ModelProto()
        with open(f"{tmp}/m.model", "rb") as f:
            model.ParseFromString(f.read())
    return model.normalizer_spec.precompiled_charsmap


def small_tokenizers(size=1500):
    """One of every kind: how GPT-2, SmolLM2, Llama 3, Qwen, Llama 2, T5 and others are built."""
    end = AddedToken("<|end|>", special=True, normalized=False)
    level = {"add_prefix_space": False}
    letters = pre_tokenizers.ByteLevel.alphabet()
    kinds = {
        "gpt2": (None, pre_tokenizers.ByteLevel(**level), {}),
        "gpt2, a blank in front": (None, pre_tokenizers.ByteLevel(add_prefix_space=True), {}),
        "smollm": (None, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(**level)]), {}),
        "llama3": (None, pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                                                  pre_tokenizers.ByteLevel(**level, use_regex=False)]), {"ignore_merges": True}),
        "qwen": (normalizers.NFC(), pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN), "isolated"),
                                                             pre_tokenizers.ByteLevel(**level, use_regex=False)]), {}),
        "gpt4o": (None, pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(GPT4O), "removed", invert=True),
                                                 pre_tokenizers.ByteLevel(**level, use_regex=False)]), {}),
    }
    for name, (normalizer, words, options) in kinds.items():
        t = Tokenizer(models.BPE(**options))
        t.normalizer, t.pre_tokenizer, t.decoder = normalizer or normalizers.Sequence([]), words, decoders.ByteLevel()
        t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=size, initial_alphabet=letters, special_tokens=[end],
                                                            show_progress=False))
        t.add_tokens([AddedToken("<name>", normalized=True), AddedToken("two  blanks", normalized=False)])
        yield name, finish(t)
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    spm = dict(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    for name, normalizer, words in [
            ("llama2", normalizers.Sequence([normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)]), None),
            ("llama2, metaspace", None, pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="first", split=False))]:
        t = Tokenizer(models.BPE(**spm))
        # trained in words, because whole documents would have whole sentences as tokens
        t.pre_tokenizer = pre_tokenizers.Metaspace(replacement=BLANK)
        t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=size, special_tokens=["<unk>", "<s>", "</s>", *bytes_],
                                                            limit_alphabet=min(300, size // 5), show_progress=False))
        data = json.loads(t.to_str())
        data["added_tokens"] = [a for a in data["added_tokens"] if not a["content"].startswith("<0x")]
        t = Tokenizer.from_str(json.dumps(data))
        t.normalizer, t.pre_tokenizer = normalizer or normalizers.Sequence([]), words or pre_tokenizers.Sequence([])
        t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        t.add_tokens([AddedToken("<turn>", normalized=False, lstrip=True, rstrip=True), AddedToken("word", single_word=True)])
        yield name, finish(t)
    rules = sentencepiece_rules(size < 1000)
    if rules is None:
        print("unigram, Precompiled: SKIPPED: no sentencepiece")
    for name, normalizer in [("unigram, Precompiled", normalizers.Precompiled(rules))] * (rules is not None) + [
                             ("unigram", normalizers.NFKC()),
                             ("unigram, lower case", normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(),
                                                                           normalizers.StripAccents(), normalizers.Strip()]))]:
        t = Tokenizer(models.Unigram())
        t.normalizer, t.pre_tokenizer = normalizer, pre_tokenizers.Metaspace(replacement=BLANK)
        t.train_from_iterator(corpus(), trainers.UnigramTrainer(vocab_size=size, special_tokens=["<unk>", "</s>"], unk_token="<unk>",
                                                                show_progress=False))
        t.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
        yield name, finish(t)
    t = Tokenizer(models.BPE(unk_token="[?]", continuing_subword_prefix="##", end_of_word_suffix="</w>"))
    t.normalizer = normalizers.Replace(Regex(r"\d+"), "0")
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("contiguous")])
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=size, special_tokens=["[?]"], limit_alphabet=min(100, size // 5), show_progress=False,
                                                        continuing_subword_prefix="##", end_of_word_suffix="</w>"))
    yield "prefix and suffix", finish(t)
    for behavior in ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]:
        t = Tokenizer(models.WordLevel(unk_token="?"))
        t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("-", behavior)])
        t.train_from_iterator(corpus() + ["a-b--c ---d e- -f -"] * 50, trainers.WordLevelTrainer(vocab_size=min(400, size), special_tokens=["?"],
                                                                                               show_progress=False))
        yield f"words, {behavior}", finish(t)


def finish(t):
    t.encode_special_tokens = True  # as here, unless --special-tokens is given
    return t


def hard_texts(seed=1):
    draw = random.Random(seed)
    # every character that has had a meaning since Unicode 14, in order and mixed
    letters = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    texts = ["", " ", "\n", "\0", "a", "  a", "a  ", "it's IT'S we'Re 'ſ I'LL", "1234567 12.5e-3 ½ ²³ Ⅻ 一二 ٣٤", "\x85x\x85\x85 y\u2028z",
             "a\u00a0b\u3000c\u200bd", "e\u0301 é ｱ ﬁ Å \u1100\u1161\u11a8 각", "İıſß ΑΣ Σ", "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ❤️ 🇫🇷", "<|end|> x <name><name>", "two  blanks <turn>\n\n  <turn>",
             "sword word words a word, 3word éword wordé word", "x" * 5000, "ab" * 3000, " " * 5000 + "x", "\n \n\t \r\n" * 500, "é" * 3000, "你好" * 2000,
             "a-b--c ---d e- -f -", "http://a.b/c?d=e&f=g#h_i", "int main(int argc, char** argv) { return 0; }\n\n\n\t\tx += 1;", "\ufffd\ufeff a\u0300\u0301\u0302",
             "नमस्ते दुनिया แปลกมาก ကျွန်ုပ် ابجد שלום", "".join(letters[:3000]), "\r\r\n\n\r", "'s's 't"]
    texts += ["".join(letters[i:i + 4000]) for i in range(0, len(letters), 4000)]
    texts += [" ".join(letters[i:i + 3] and "".join(letters[i:i + 3]) for i in range(s, len(letters), 97)) for s in range(3)]
    pool = letters + list(" \n\t'.,-<>|_0123456789abcdefghijklmnopqrstuvwxyzABC") * 900
    for _ in range(300):
        texts.append("".join(draw.choice(pool) for _ in range(draw.randrange(1, 200))))
    return texts


def split_up(text):
    """For texts of bytes: what Python makes of bytes that are not UTF-8."""
    return text.decode("utf-8", "replace")


BAD_BYTES = [b"\xff", b"a\x80b", b"\xe2\x82", b"\xe2\x82x", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xf0\x80\x80\x80x",
             b"ok \xe4\xbd\xa0 \xe4\xbd", bytes(range(256)), b"\xf8\x88\x80\x80\x80", b"\xe2\xe2\x82\xac"]


def ours(program, tokenizer, text, *more):
    r = subprocess.run([program, "tokens", "--tokenizer", tokenizer, "--prompt-file", "-", *more], input=text, capture_output=True)
    if r.returncode:
        return None, r.stderr.decode(errors="replace").strip()
    line = r.stdout.decode().strip()
    return [int(i) for i in line.split(",")] if line else [], r.stderr.decode()


def unknown_to_old_tables():
    """Characters that the library's normalizers and Punctuation do not know: their tables are those of Unicode 8 and 9."""
    nfkc, words = normalizers.NFKC(), pre_tokenizers.Punctuation()
    unknown = set()
    for code in range(0x110000):
        c = chr(code)
        category = unicodedata.category(c)
        if category in ("Cn", "Cs", "Co"):
            continue
        one = nfkc.normalize_str(c) == unicodedata.normalize("NFKC", c)
        order = not unicodedata.combining(c) or nfkc.normalize_str(f"a{c}\u0301\u0323") == unicodedata.normalize("NFKC", f"a{c}\u0301\u0323")
        mark = category[0] != "M" or normalizers.StripAccents().normalize_str(c) == ""
        punctuation = category[0] != "P" or len(words.pre_tokenize_str(f"a{c}b")) == 3
        if not (one and order and mark and punctuation) or code == 0x166D:  # this one has changed since
            unknown.add(c)
    return unknown


def compare(program, name, file, t, unknown=None):
    wrong, shown, refused = 0, "", ""
    texts = hard_texts()
    if unknown and (json.loads(t.to_str())["normalizer"] or "Punctuation" in t.to_str()[:5000]):
        texts = ["".join(c for c in text if c not in unknown) for text in texts]
    cases = [x.encode() for x in texts] + BAD_BYTES
    count = 0
    for text in cases:
        if not text:
            continue
        count += 1
        got, message = ours(program, file, text)
        try:
            want = t.encode(split_up(text), add_special_tokens=False).ids
        except Exception as e:  # a word that the vocabulary lacks
            want, refused = None, str(e)
        if got != want:
            wrong += 1
            at = next((i for i, (a, b) in enumerate(zip(got or [], want or [])) if a != b), 0)
            shown = shown or f"{split_up(text)[:60]!r}: {(got or [])[at:at + 8]} here, {(want or [])[at:at + 8]} there, token {at}; {message[:100]}"
    check(f"{name}: {count} texts", wrong == 0, f"{wrong} differ, first {shown}" if wrong else refused)


def write_fixtures(path):
    """Small vocabularies and short texts, so that the file is small. Only characters that every Unicode table has, of this system's
    libraries or of another's."""
    unknown = unknown_to_old_tables()
    draw = random.Random(1)
    lines = [line for text in corpus() for line in text.split("\n") if 40 < len(line) < 100]
    texts = [text for text in hard_texts()[:40] if 0 < len(text.encode()) <= 120][:23] + draw.sample(lines, 16) + [corpus()[-1][:90]]
    pool = [chr(c) for c in range(0x30000) if unicodedata.ucd_3_2_0.category(chr(c)) not in ("Cn", "Cs", "Co")]
    pool += list(" \n\t'.,-<>|_0123456789abcdefghijklmnopqrstuvwxyzABC") * 1500
    texts += ["".join(draw.choice(pool) for _ in range(40)) for _ in range(10)]
    texts = ["".join(c for c in text if c not in unknown) for text in texts]
    cases = []
    for name, t in small_tokenizers(400):
        ids = []
        for names_are_text in [True, False]:
            t.encode_special_tokens = names_are_text
            ids.append([t.encode(text, add_special_tokens=False).ids for text in texts])
        # most texts have the same ids both ways
        names = [[i, b] for i, (a, b) in enumerate(zip(*ids)) if a != b]
        around = t.encode("a", add_special_tokens=True).ids
        at = around.index(t.encode("a", add_special_tokens=False).ids[0])
        around = [around[:at], around[at + len(t.encode("a", add_special_tokens=False).ids):]]
        cases.append({"name": name, "tokenizer": json.loads(t.to_str()), "around": around, "ids": ids[0], "ids with names": names})
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"texts": texts, "cases": cases}, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


def main():
    if sys.argv[1] == "--fixtures":
        write_fixtures(sys.argv[2])
        sys.exit(0)
    program = os.path.abspath(sys.argv[1])
    unknown = unknown_to_old_tables()
    with tempfile.TemporaryDirectory() as tmp:
        for number, (name, t) in enumerate(small_tokenizers()):
            file = f"{tmp}/{number}.json"
            t.save(file)
            if number == 0:
                _, message = ours(program, file, b"a")
                if "built without" in message:
                    print(f"SKIPPED: {message}")
                    sys.exit(77)
            compare(program, name, file, t, unknown)
        for path in sys.argv[2:]:
            file = f"{tmp}/real.json"
            subprocess.run([program, "tokens", "--tokenizer", path, "--save-tokenizer", file], check=True)
            t = finish(Tokenizer.from_file(file))
            compare(program, os.path.basename(path), file, t, unknown)
            speed(program, os.path.basename(path), file, t)
    report()


def speed(program, name, file, t):
    text = ("\n".join(corpus()) * 20)[:10_000_000]
    got, message = ours(program, file, text.encode())
    begin = time.time()
    want = t.encode(text, add_special_tokens=False).ids
    there = len(text.encode()) / (time.time() - begin) / 1e6
    here = float(message.split("s, ")[1].split(" MB/s")[0])
    check(f"{name}: 10 MB", got == want, f"{len(want)} tokens")
    check(f"{name}: at least a third of the speed", here > there / 3, f"{here:.1f} MB/s here, {there:.1f} there")


if __name__ == "__main__":
    main()
