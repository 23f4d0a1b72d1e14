#!/usr/bin/env python3
"""Compares Llamas in GGUF files with Hugging Face's transformers: the same logits, greedy text and token ids, for every format of
numbers and kind of RoPE. The files are written here with the package gguf, in llama.cpp's order of rows.

    gguf_test.py PROGRAM            exit status 77 (SKIPPED) if a package is missing
    gguf_test.py --fixtures DIR     writes test/huggingface/gguf/ for unit_test
MOBA_GGUF=FILE.gguf names a real Llama, which is compared too."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from checks import check, report

try:
    import accelerate  # noqa: F401  transformers reads .gguf files with it
    import numpy as np
    import torch
    from gguf import GGMLQuantizationType, GGUFWriter, RopeScalingType, quants
    from safetensors.torch import load_file, save_file
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
except ImportError as e:
    print(f"SKIPPED: {e}")
    sys.exit(77)

TOLERANCE = 1e-4
FORMATS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
# The package cannot quantise to these. Bytes of a block, where its scale is, where that of its offsets is, and how large the
# latter must be to make the numbers' mean about 0.
K_BLOCKS = {"Q2_K": (84, 80, 82, 1.5), "Q3_K": (110, 108, None, 0), "Q4_K": (144, 0, 2, 7.5), "Q5_K": (176, 0, 2, 15.5),
            "Q6_K": (210, 208, None, 0)}
BLANK = "\u2581"


def k_blocks(draw, name, shape, deviation):
    """Random blocks, all bytes of which are used, with numbers of this standard deviation."""
    size, scale_at, offset_at, ratio = K_BLOCKS[name]
    blocks = draw.integers(0, 256, (int(np.prod(shape)) // 256, size), dtype=np.uint8)

    def set_scales(scales):
        def put(at, values):
            blocks[:, at:at + 2] = values.astype("<f2")[:, None].view(np.uint8)
        put(scale_at, scales)
        if offset_at is not None:
            put(offset_at, scales * ratio)

    set_scales(np.full(len(blocks), 1 / 64))
    now = quants.dequantize(blocks, GGMLQuantizationType[name]).std()
    set_scales(draw.uniform(0.7, 1.3, len(blocks)) / 64 * deviation / now)
    return blocks.reshape(*shape[:-1], -1)


def stored(draw, name, shape, deviation):
    """Random numbers as a file has them: rows of this format."""
    if name in K_BLOCKS:
        return k_blocks(draw, name, shape, deviation)
    values = draw.normal(0, deviation, shape).astype(np.float32)
    return quants.quantize(values, GGMLQuantizationType[name])


def floats(name, data):
    return np.array(quants.dequantize(data, GGMLQuantizationType[name]), dtype=np.float32)


def permuted(data, heads):
    """The rows of q and k in llama.cpp's order, as its converter makes it."""
    return data.reshape(heads, 2, data.shape[0] // heads // 2, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)


NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm"}


def gguf_name(name):
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    if name in whole:
        return whole[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def llama_config(**more):
    return LlamaConfig(**{**dict(vocab_size=267, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
                                 num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=False,
                                 eos_token_id=None, bos_token_id=None), **more})


def llama3_factors(config):
    """By how much each frequency is divided, in the words of llama.cpp's converter."""
    rope = config.rope_parameters
    factors = []
    for i in range(0, config.head_dim, 2):
        wave = 2 * np.pi * rope["rope_theta"] ** (i / config.head_dim)
        low, high, original = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
        if wave < original / high:
            factors.append(1)
        elif wave > original / low:
            factors.append(rope["factor"])
        else:
            smooth = (original / wave - low) / (high - low)
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def write_llama(path, config, format_of, seed=1, deviation=0.09, head_count_kv=True, key_length=True, tokenizer=None):
    """Writes a Llama with random weights; returns the same one in transformers. format_of(name) is a format of numbers."""
    draw = np.random.default_rng(seed)
    w = GGUFWriter(path, "llama")
    rope = config.rope_parameters
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_block_count(config.num_hidden_layers)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    if head_count_kv:
        w.add_head_count_kv(config.num_key_value_heads)
    if key_length:
        w.add_key_length(config.head_dim)
        w.add_value_length(config.head_dim)
    w.add_rope_dimension_count(config.head_dim)
    w.add_rope_freq_base(rope["rope_theta"])
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_vocab_size(config.vocab_size)
    if rope["rope_type"] == "linear":
        w.add_rope_scaling_type(RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope["factor"])
    elif rope["rope_type"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(config))
    if tokenizer:
        tokenizer(w)
    model = LlamaForCausalLM(config).eval()
    state = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        shape = tuple(tensor.shape)
        kind = "F32" if len(shape) == 1 else format_of(name)
        data = stored(draw, kind, shape, deviation)
        if len(shape) == 1:
            data += 1
        state[name] = torch.from_numpy(floats(kind, data))
        for part, heads in [("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)]:
            if part in name:
                data = permuted(data, heads)
        w.add_tensor(gguf_name(name), np.ascontiguousarray(data), raw_dtype=GGMLQuantizationType[kind])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    missing = set(model.load_state_dict(state, strict=False).missing_keys)
    assert missing <= ({"lm_head.weight"} if config.tie_word_embeddings else set()), missing
    return model


def moba(*words, **more):
    r = subprocess.run([MOBA, *map(str, words)], capture_output=True, encoding="utf-8", errors="surrogateescape", **more)
    if r.returncode:
        check(" ".join(map(str, words[:3])), False, f"exit status {r.returncode}: {r.stderr.strip()[-300:]}")
    return r.stdout


def compare(name, path, model, ids, new_tokens=20, end_tokens=None):
    """With end_tokens the file has a tokenizer, so the program prints text."""
    with tempfile.TemporaryDirectory() as tmp, torch.no_grad():
        text = moba("sample", "--model", path, "--attention", "full", "--prompt-ids", ",".join(map(str, ids)),
                    "--max-new-tokens", new_tokens, "--logits", f"{tmp}/logits.safetensors")
        if not os.path.exists(f"{tmp}/logits.safetensors"):
            return
        logits = load_file(f"{tmp}/logits.safetensors")["logits"]
        prompt = torch.tensor([ids])
        want = model(prompt).logits[0]
        generated = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=new_tokens, do_sample=False,
                                   use_cache=True, eos_token_id=None, pad_token_id=0)[0].tolist()
    error = ((logits - want).abs().max() / want.abs().max()).item()
    check(f"{name}: logits", error <= TOLERANCE, f"relative error {error:.1e}, largest logit {want.abs().max():.2f}")
    if end_tokens is None:
        text = [int(t) for t in text.split()]
        same = sum(a == b for a, b in zip(text, generated)) - len(ids)
        check(f"{name}: greedy continuation", text == generated, f"{same} of {new_tokens} tokens alike")
        return
    end = next((i for i in range(len(ids), len(generated)) if generated[i] in end_tokens), len(generated))
    want = moba("tokens", "--tokenizer", path, "--prompt-ids", ",".join(map(str, generated[:end])))
    check(f"{name}: greedy continuation", text == want, f"{end - len(ids)} tokens, {text[-40:]!r} here, {want[-40:]!r} there")


def mixed(name):
    return FORMATS[sum(map(ord, name)) % len(FORMATS)]


def small_llamas(tmp):
    linear = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    llama3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 8192}
    cases = {kind: dict(config=llama_config(), format_of=lambda _, kind=kind: kind) for kind in FORMATS}
    cases |= {
        "formats mixed": dict(config=llama_config(), format_of=mixed),
        "tied": dict(config=llama_config(tie_word_embeddings=True), format_of=lambda _: "Q8_0"),
        "no GQA, few settings": dict(config=llama_config(num_key_value_heads=4), format_of=lambda _: "F16", head_count_kv=False,
                                     key_length=False),
        "head_dim of its own": dict(config=llama_config(head_dim=96), format_of=lambda _: "Q5_1"),
        "linear scaling": dict(config=llama_config(rope_parameters=linear), format_of=lambda _: "F16"),
        "llama3 scaling by 8": dict(config=llama_config(rope_parameters=llama3), format_of=lambda _: "F16"),
        "llama3 scaling by 32": dict(config=llama_config(rope_parameters={**llama3, "factor": 32.0}), format_of=lambda _: "F16"),
    }
    for number, (name, case) in enumerate(cases.items()):
        path = f"{tmp}/{number}.gguf"
        model = write_llama(path, seed=number, **case)
        ids = torch.randint(0, 267, (150,), generator=torch.Generator().manual_seed(number)).tolist()
        compare(name, path, model, ids)
        os.remove(path)


# ----- tokenizers

TEXTS = ["the same text", " the  theme, then\n\nthere.", "a", "Ünïcode é 語 👍🏽 \u00a0\u2009x", "12345 6.78", "\tif (x) {\n\t\treturn;\n\t}\n", "<s> <|end|> </s> in a text",
         "it's  we'll   THE END", "   ", "tthheemm"]


def gpt2_tokenizer(w):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train_from_iterator(TEXTS * 4 + ["the then theme there return in text same "] * 20,
                          trainers.BpeTrainer(vocab_size=298, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    data = json.loads(t.to_str())["model"]
    tokens = sorted(data["vocab"], key=data["vocab"].get) + ["<|end|>", "<|turn|>"]
    assert len(tokens) == 300
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types([1] * 298 + [3, 3])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in data["merges"]])
    w.add_eos_token_id(298)
    w.add_bos_token_id(298)
    w.add_eot_token_id(299)
    w.add_chat_template("{{ messages[0]['content'] }}<|turn|>")


def spm_tokenizer(w):
    words = [BLANK, "t", "h", "e", "m", "n", "s", "a", "x", "r", "i", ".", "th", "he", "the", BLANK + "t", BLANK + "th", BLANK + "the", "em", "eme",
             "en", "then", "them", "theme", "er", "re", BLANK * 2, BLANK * 3, "in", "ex", "text", "te", "xt", BLANK + "text", "sa", "me", "same",
             BLANK + "s", "é", "語"]
    tokens = ["<unk>", "<s>", "</s>", *[f"<0x{b:02X}>" for b in range(256)], *words]
    scores = [0.0] * 259 + [-float((7 * i) % 40) - i / 8 for i in range(len(words))]
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list(tokens)
    w.add_token_scores(scores)
    w.add_token_types([2, 3, 3] + [6] * 256 + [1] * len(words))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(True)


def texts_and_ids(path):
    """As transformers reads the tokenizer: a text, its ids, and its ids when names of special tokens are these tokens. Without
    what it puts around a text."""
    t = AutoTokenizer.from_pretrained(os.path.dirname(path), gguf_file=os.path.basename(path)).backend_tokenizer
    if isinstance(t.pre_tokenizer, pre_tokenizers.Metaspace):
        # It puts no blank in front of a blank. SentencePiece, llama.cpp and the tokenizer.json of Llama 2 do.
        t.normalizer = normalizers.Sequence([normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)])
        t.pre_tokenizer = pre_tokenizers.Sequence([])
    out = [[text] for text in TEXTS]
    for names_are_text in [True, False]:
        t.encode_special_tokens = names_are_text
        for case in out:
            case.append(t.encode(case[0], add_special_tokens=False).ids)
    return out


def tiny(path, tokenizer):
    """Two Llamas for the repository."""
    gpt2 = tokenizer is gpt2_tokenizer
    config = llama_config(vocab_size=300 if gpt2 else 299, hidden_size=32, intermediate_size=64, num_attention_heads=4,
                          num_key_value_heads=2, num_hidden_layers=2 if gpt2 else 1, max_position_embeddings=64, tie_word_embeddings=gpt2)
    return write_llama(path, config, lambda _: "Q8_0" if gpt2 else "F16", tokenizer=tokenizer, deviation=0.3)


TINY = {"gpt2_tied_q8_0": gpt2_tokenizer, "llama_f16": spm_tokenizer}


def small_tokenizers(tmp):
    for name, tokenizer in TINY.items():
        path = f"{tmp}/{name}.gguf"
        compare(name, path, tiny(path, tokenizer), list(range(200, 240)), end_tokens=[298, 299] if tokenizer is gpt2_tokenizer else [2])
        compare_tokens(name, path, texts_and_ids(path))


def compare_tokens(name, path, cases):
    probe = subprocess.run([MOBA, "tokens", "--tokenizer", path, "--prompt", "a"], capture_output=True, text=True)
    if "built without" in probe.stderr:
        print(f"SKIPPED {name}: ids of texts: the program was built without PCRE2")
        return
    wrong = []
    for text, *both in cases:
        for want, more in zip(both, [[], ["--special-tokens"]]):
            out = moba("tokens", "--tokenizer", path, "--prompt-file", "-", *more, input=text)
            got = [int(i) for i in out.strip().split(",") if i]
            if got != want:
                wrong.append(f"{text!r}: {got[:12]} here, {want[:12]} there")
    check(f"{name}: ids of {len(cases)} texts", not wrong, wrong[0] if wrong else "")


def write_fixtures(root):
    shutil.rmtree(root, ignore_errors=True)
    os.makedirs(root)
    draw = np.random.default_rng(1)
    w = GGUFWriter(f"{root}/formats.gguf", "none")
    for name in FORMATS:
        data = stored(draw, name, (2, 256), 1.0)
        w.add_tensor(name, data, raw_dtype=GGMLQuantizationType[name])
        w.add_tensor(f"{name}.expected", floats(name, data))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    for name, tokenizer in TINY.items():
        folder = f"{root}/{name}"
        os.makedirs(folder)
        model = tiny(f"{folder}/model.gguf", tokenizer)
        ids = torch.randint(0, model.config.vocab_size, (1, 16), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            logits = model(ids).logits[0].contiguous()
        save_file({"ids": ids[0].to(torch.int32), "logits": logits}, f"{folder}/expected.safetensors")
        with open(f"{folder}/texts.json", "w", encoding="utf-8") as f:
            json.dump(texts_and_ids(f"{folder}/model.gguf"), f, ensure_ascii=False, separators=(",", ":"))
            f.write("\n")


def real_llama(path):
    folder, name = os.path.split(os.path.abspath(path))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    ids = torch.randint(0, model.config.vocab_size, (512,), generator=torch.Generator().manual_seed(1)).tolist()
    ends = model.generation_config.eos_token_id
    compare(name, path, model, ids, end_tokens=ends if isinstance(ends, list) else [ends])
    compare_tokens(name, path, texts_and_ids(path))


if __name__ == "__main__":
    if sys.argv[1] == "--fixtures":
        write_fixtures(sys.argv[2])
        sys.exit(0)
    MOBA = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as tmp:
        small_llamas(tmp)
        small_tokenizers(tmp)
    real = os.environ.get("MOBA_GGUF", "")
    if os.path.exists(real):
        real_llama(real)
    else:
        print("SKIPPED a real Llama: MOBA_GGUF names no file")
    report()
