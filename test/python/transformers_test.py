#!/usr/bin/env python3
"""Compares with Hugging Face's transformers in both directions: its Llamas give the same logits and the same greedy text
here, and models trained here give the same logits there.

    transformers_test.py PROGRAM            exit status 77 (SKIPPED) if transformers is not installed
    transformers_test.py --fixtures DIR     writes test/huggingface/: small Llamas and their logits for unit_test
"""
import json
import os
import subprocess
import sys
import tempfile

from checks import check, report

try:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
except ImportError as e:
    print(f"SKIPPED: {e}")
    sys.exit(77)

MOBA = os.path.abspath(sys.argv[1])
TOLERANCE = 1e-4


def moba(*words, expect=0):
    r = subprocess.run([MOBA, *map(str, words)], capture_output=True, text=True)
    if r.returncode != expect:
        check(" ".join(map(str, words)), False, f"exit status {r.returncode}: {r.stderr.strip()}")
    return r


def our_logits(folder, ids, new_tokens):
    with tempfile.TemporaryDirectory() as tmp:
        r = moba("sample", "--model", folder, "--attention", "full", "--prompt-ids", ",".join(map(str, ids)),
                 "--max-new-tokens", new_tokens, "--logits", f"{tmp}/logits.safetensors")
        logits = load_file(f"{tmp}/logits.safetensors")["logits"]
    return logits, r.stdout


def compare(name, folder, model, ids, new_tokens=20):
    model = model.float().eval()
    logits, text = our_logits(folder, ids, new_tokens)
    with torch.no_grad():
        prompt = torch.tensor([ids])
        want = model(prompt).logits[0]
        # without the mask, generate() would treat ids equal to pad_token_id as padding
        generated = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=new_tokens,
                                   do_sample=False, use_cache=True, eos_token_id=None, pad_token_id=0)[0].tolist()
    error = ((logits - want).abs().max() / want.abs().max()).item()
    check(f"{name}: logits", error <= TOLERANCE, f"relative error {error:.1e}, largest logit {want.abs().max():.2f}")
    text = [int(t) for t in text.split()]
    same = sum(a == b for a, b in zip(text, generated)) - len(ids)
    check(f"{name}: greedy continuation", text == generated, f"{same} of {new_tokens} tokens alike")


def ours(config, **more):
    return LlamaConfig(**{**dict(vocab_size=97, hidden_size=64, intermediate_size=112, num_hidden_layers=3,
                                 num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
                                 initializer_range=0.25, eos_token_id=None, bos_token_id=None), **config, **more})


LLAMAS = {
    "Llama 2 (no GQA, untied)": (ours({"num_key_value_heads": 4}), torch.float32, "5GB"),
    "GQA, tied": (ours({"tie_word_embeddings": True}), torch.float32, "5GB"),
    "head_dim of its own, theta 500000": (ours({"head_dim": 24, "rope_theta": 500000.0, "rms_norm_eps": 1e-5}),
                                          torch.float32, "5GB"),
    "linear scaling, bf16": (ours({"rope_scaling": {"rope_type": "linear", "factor": 4.0}}), torch.bfloat16, "5GB"),
    "yarn": (ours({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}}), torch.float32, "5GB"),
    "yarn, theta 500000, heads of 64": (ours({"head_dim": 64, "rope_theta": 500000.0, "rope_scaling": {
        "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 1024}}), torch.float32, "5GB"),
    "llama3 scaling, f16, in shards": (ours({"rope_theta": 10000.0, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}}), torch.float16, "60KB"),
}


def their_models_here(tmp):
    for number, (name, (config, dtype, shard)) in enumerate(LLAMAS.items()):
        torch.manual_seed(number)
        folder = f"{tmp}/theirs{number}"
        LlamaForCausalLM(config).to(dtype).save_pretrained(folder, max_shard_size=shard)
        files = [f for f in os.listdir(folder) if f.endswith(".safetensors")]
        if "shards" in name:
            check(f"{name}: {len(files)} files", len(files) > 1)
        ids = torch.randint(0, 97, (150,)).tolist()
        compare(name, folder, LlamaForCausalLM.from_pretrained(folder, dtype=dtype), ids)
        moba("info", "--model", folder)
    # other kinds of models are refused by name
    MistralForCausalLM(MistralConfig(vocab_size=97, hidden_size=64, intermediate_size=112, num_hidden_layers=1,
                                     num_attention_heads=4, num_key_value_heads=2)).save_pretrained(f"{tmp}/mistral")
    r = moba("info", "--model", f"{tmp}/mistral", expect=1)
    check("Mistral is refused by name", "mistral" in r.stderr, r.stderr.strip()[-100:])
    # Llamas can be trained further
    with open(f"{tmp}/text", "w") as f:
        f.write("ABCABCABC " * 200)
    folder = f"{tmp}/wide"
    LlamaForCausalLM(ours({"vocab_size": 260})).save_pretrained(folder)
    r = moba("train", "--init-from", folder, "--data", f"{tmp}/text", "--attention", "moba", "--block-size", 16, "--top-k", 2,
             "--seq-len", 64, "--batch-size", 4, "--steps", 30, "--warmup", 5, "--eval-every", 30, "--out", f"{tmp}/further")
    check("a Llama trained further with MoBA", "done at step 30" in r.stdout)


def our_models_there(tmp):
    tiny = ["train", "--task", "needle", "--hidden-size", 48, "--num-heads", 4, "--num-kv-heads", 2, "--num-layers", 2,
            "--seq-len", 96, "--batch-size", 4, "--steps", 30, "--warmup", 5, "--eval-every", 0, "--block-size", 16]
    forms = {"trained here, full": ["--attention", "full"],
             "trained here, MoBA, tied": ["--attention", "moba", "--tie-word-embeddings"],
             "trained here, linear scaling": ["--attention", "full", "--rope-scaling", "linear:4"],
             "trained here, yarn": ["--attention", "full", "--rope-scaling", "yarn:4:32"],
             "trained here, llama3 scaling": ["--attention", "full", "--rope-scaling", "llama3:8:1:4:32"]}
    for number, (name, options) in enumerate(forms.items()):
        folder = f"{tmp}/ours{number}"
        moba(*tiny, *options, "--out", folder)
        model, info = LlamaForCausalLM.from_pretrained(f"{folder}/latest", output_loading_info=True)
        problems = {k: v for k, v in info.items() if v}
        check(f"{name}: loads without a complaint", not problems, str(problems) if problems else "")
        ids = torch.randint(0, 96, (90,), generator=torch.Generator().manual_seed(number)).tolist()
        logits, _ = our_logits(f"{folder}/latest", ids, 1)
        with torch.no_grad():
            want = model.float()(torch.tensor([ids])).logits[0]
        error = ((logits - want).abs().max() / want.abs().max()).item()
        check(f"{name}: logits", error <= TOLERANCE, f"relative error {error:.1e}")
    moba(*tiny, "--key-conv", 3, "--out", f"{tmp}/conv")
    with open(f"{tmp}/conv/latest/config.json") as f:
        check("key convolution is no Llama", json.load(f)["architectures"] == ["MobaForCausalLM"])
    try:
        AutoModelForCausalLM.from_pretrained(f"{tmp}/conv/latest")
        check("key convolution fails loudly there", False)
    except (ValueError, KeyError) as e:
        check("key convolution fails loudly there", True, str(e).split("\n")[0][:80])


def write_fixtures(root):
    for name, shard, dtype, config in [
            ("llama2_f32", "5GB", torch.float32, {"num_key_value_heads": 2}),
            ("gqa_tied_bf16", "5GB", torch.bfloat16, {"num_key_value_heads": 1, "tie_word_embeddings": True}),
            ("llama3_f16_shards", "2KB", torch.float16, {"num_key_value_heads": 1, "head_dim": 12, "rope_scaling": {
                "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 16}}),
            ("linear_f32", "5GB", torch.float32, {"num_key_value_heads": 2, "rope_scaling": {
                "rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}})]:
        torch.manual_seed(1)
        small = dict(vocab_size=23, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2)
        folder = f"{root}/{name}"
        LlamaForCausalLM(ours(small, **config)).to(dtype).save_pretrained(folder, max_shard_size=shard)
        os.remove(f"{folder}/generation_config.json")
        ids = torch.randint(0, 23, (1, 40))
        with torch.no_grad():
            logits = LlamaForCausalLM.from_pretrained(folder, dtype=dtype).float()(ids).logits[0]
        save_file({"ids": ids[0].to(torch.int32), "logits": logits}, f"{folder}/expected.safetensors")


if sys.argv[1] == "--fixtures":
    write_fixtures(sys.argv[2])
    sys.exit(0)
with tempfile.TemporaryDirectory() as tmp:
    their_models_here(tmp)
    our_models_there(tmp)
report()
