"""Documents to ids."""
import bisect
import functools
import json
import re
import string

from prepare.messages import fail

PIECE = 1 << 17   # characters encoded at a time
AROUND = 1 << 12  # characters to both sides that a token may depend on
END_NAMES = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[SEP]")


class Bytes:
    name, vocab_size, begin, end, notes = "bytes", 257, [], 256, ()

    def encode(self, text, ends):
        return text if isinstance(text, bytes) else text.encode()


class Tokenizer:
    name = "tokenizer.json"

    def __init__(self, o):
        try:
            from tokenizers import Tokenizer as Reader
        except ImportError:
            fail("--tokenizer needs the package `tokenizers` (pip install tokenizers)")
        try:
            with open(o.tokenizer, "rb") as f:
                self.file = f.read()
            self.reader = Reader.from_buffer(self.file)
            self.reader.encode_special_tokens = not o.special_tokens
        except Exception as e:
            fail(f"{o.tokenizer}: {getattr(e, 'strerror', None) or e}")
        self.reader.no_truncation()
        self.reader.no_padding()
        self.vocab_size = max(self.reader.get_vocab().values(), default=0) + 1
        if self.vocab_size > 1 << 24:
            fail(f"{o.tokenizer}: has the id {self.vocab_size - 1}; moba reads ids up to {(1 << 24) - 1}")
        self.find_begin_and_end(o)

        model = json.loads(self.file)["model"]
        self.unknown = model.get("unk_id", self.reader.token_to_id(model.get("unk_token") or ""))
        self.unknowns = self.left_out = 0
        special = [t.content for t in self.reader.get_added_tokens_decoder().values() if t.special]
        self.special = re.compile("|".join(map(re.escape, special)) or "(?!)")
        self.special_is_text, self.special_found = not o.special_tokens, set()
        self.has_token = functools.cache(lambda character: bool(self.tokens(character)[0]))
        self.keep("", 0, 0)

    def find_begin_and_end(self, o):
        def token(name):
            if (i := self.reader.token_to_id(name)) is None:
                fail(f"{o.tokenizer}: has no token {name}")
            return i
        # What the tokenizer puts before and after every text.
        around = self.reader.encode(string.printable)
        inside = [i for i, text in enumerate(around.sequence_ids) if text is not None] or [0]
        before, after = around.ids[:inside[0]], around.ids[inside[-1] + 1:]
        ends = after or [i for i in map(self.reader.token_to_id, END_NAMES) if i is not None]
        self.end = token(o.end_token) if o.end_token else ends[0] if ends else None
        self.begin = before
        if o.begin_token is not None:
            self.begin = [token(o.begin_token)] if o.begin_token else []
        if self.begin == [self.end]:
            self.begin = []

    def keep(self, text, known, covered):
        """Of this text, ids are known up to the character `known`; tokens cover it up to `covered`."""
        self.text, self.known, self.covered, self.wanted = text, known, covered, PIECE

    def tokens(self, text):
        try:
            e = self.reader.encode(text, add_special_tokens=False)
        except Exception as error:
            fail(f"the tokenizer cannot encode this text: {error}")
        return e.ids, e.offsets

    def encode(self, text, ends):
        """The next ids of a document: those of the whole, but a long one is encoded in pieces, so that memory
        does not grow with it. A piece begins with the end of the one before it, as context."""
        if self.special_is_text:
            self.special_found.update(self.special.findall(text))
        self.text += text
        if len(self.text) < self.wanted and not ends:
            return []
        ids, places = self.tokens(self.text)
        cut = len(self.text) + 1 if ends else self.cut(ids, places)
        if cut is None:
            self.wanted *= 2
            return []
        first, last = bisect.bisect_left(places, (self.known,)), bisect.bisect_left(places, (cut,))
        ids, covered = ids[first:last], self.covered
        for begin, end in places[first:last] + [(len(self.text), 0)] * ends:
            if begin > covered:
                between = self.text[covered:begin]
                self.left_out += sum(not c.isspace() and not self.has_token(c) for c in between)
            covered = max(covered, end)
        self.unknowns += ids.count(self.unknown)
        if ends:
            self.keep("", 0, 0)
        else:
            self.keep(self.text[cut - AROUND:], AROUND, covered - (cut - AROUND))
        return ids

    def cut(self, ids, places):
        """A place in self.text where no token depends on text farther than AROUND, or None."""
        cut = len(self.text) - 2 * AROUND
        context = cut - AROUND
        other_ids, other_places = self.tokens(self.text[context:cut + AROUND])

        def near(ids, places, cut):
            first, last = (bisect.bisect_left(places, (cut + d,)) for d in (-AROUND // 2, AROUND // 2))
            return [(i, a - cut, b - cut) for i, (a, b) in zip(ids[first:last], places[first:last])]
        same = near(ids, places, cut)
        return cut if len(same) > 8 and same == near(other_ids, other_places, AROUND) else None

    @property
    def notes(self):
        if self.special_found:
            names = ", ".join(sorted(self.special_found))
            yield f"names of special tokens stay text ({names}); see --special-tokens"
        if self.unknowns:
            name = self.reader.id_to_token(self.unknown)
            yield f"{self.unknowns} tokens are {name}, which stands for text that the tokenizer does not know"
        if self.left_out:
            yield f"{self.left_out} characters have no token: the tokenizer leaves them out"
