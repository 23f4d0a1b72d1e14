#!/usr/bin/env python3
"""Tokens per second of one model here, in llama.cpp and in transformers: the same file, the same prompt, the same cores, in turns.

    decode_speed.py PROGRAM MODEL.gguf [LENGTH...]      default 1024 8192; needs llama-cpp-python, and transformers with accelerate

llama.cpp computes with F16 weights and an F16 cache, and once more with F32 weights; this program and transformers with fp32. Every
figure is the median of three runs; the runs of the programs take turns. Nothing else should run on the machine."""
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

THREADS = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count()))
NEW, RUNS = 64, 3
PROGRAM, MODEL = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
LENGTHS = [int(n) for n in sys.argv[3:]] or [1024, 8192]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def prompt_ids(length):
    text = ""
    for name in ["kernels.md", "results.md", "usage.md", "experiments.md", "course.md"]:
        with open(f"{ROOT}/docs/{name}", encoding="utf-8") as f:
            text += f.read()
    r = subprocess.run([PROGRAM, "tokens", "--tokenizer", MODEL, "--prompt-file", "-"], input=text * 2, capture_output=True, text=True)
    return [int(i) for i in r.stdout.split(",")][:length]


def ours(ids, *options):
    r = subprocess.run([PROGRAM, "sample", "--model", MODEL, "--prompt-ids-file", "-", "--device", "cpu", "--max-new-tokens", str(NEW + 1),
                        "--repetition-penalty", "1.5", *options],  # so that no end token comes early
                       input=",".join(map(str, ids)), capture_output=True, text=True)
    speeds = [float(s) for s in re.findall(r"([0-9.]+) tokens/s", r.stderr)]
    count = int(re.search(r"generated: (\d+)", r.stderr)[1])
    return speeds[0], speeds[1], count


def llama_cpp(path, ids):
    code = ("import sys,time; from llama_cpp import Llama; path,new,threads=sys.argv[1],int(sys.argv[2]),int(sys.argv[3])\n"
            "ids=[int(i) for i in sys.stdin.read().split(',')]\n"
            "m=Llama(path,n_ctx=len(ids)+new+8,n_threads=threads,n_threads_batch=threads,verbose=False)\n"
            "b=time.time(); m.eval(ids); p=time.time()-b; b=time.time()\n"
            "for i in range(new): m.eval([1000+i])\n"
            "print(len(ids)/p, new/(time.time()-b))\n")
    r = subprocess.run([sys.executable, "-c", code, path, str(NEW), str(THREADS)], input=",".join(map(str, ids)), capture_output=True, text=True)
    if r.returncode:
        return None
    return [float(x) for x in r.stdout.split()]


def convert(folder):
    """MODEL with F16 and with F32 weights, by llama.cpp itself."""
    import ctypes

    import llama_cpp
    options = llama_cpp.llama_model_quantize_default_params()
    paths = {}
    for name, kind in (("F16", 1), ("F32", 0)):
        options.ftype, options.allow_requantize, options.nthread = kind, True, THREADS
        paths[name] = f"{folder}/{name}.gguf"
        llama_cpp.llama_model_quantize(MODEL.encode(), paths[name].encode(), ctypes.byref(options))
    return paths


def load_transformers():
    import torch
    from transformers import AutoModelForCausalLM
    torch.set_num_threads(THREADS)
    return torch, AutoModelForCausalLM.from_pretrained(os.path.dirname(MODEL), gguf_file=os.path.basename(MODEL), dtype=torch.float32).eval()


def transformers(torch, model, ids):
    with torch.no_grad():
        begin = time.time()
        out = model(torch.tensor([ids]), use_cache=True, logits_to_keep=1)
        prompt, cache = time.time() - begin, out.past_key_values
        begin = time.time()
        for i in range(NEW):
            cache = model(torch.tensor([[1000 + i]]), past_key_values=cache, use_cache=True).past_key_values
        return len(ids) / prompt, NEW / (time.time() - begin)


def main():
    rows = {}
    with tempfile.TemporaryDirectory() as tmp:
        programs = {"moba, full attention": lambda ids: ours(ids, "--attention", "full"),
                    "moba, MoBA S = 64, K = 8": lambda ids: ours(ids, "--attention", "moba", "--block-size", "64", "--top-k", "8")}
        try:
            for name, path in convert(tmp).items():
                programs[f"llama.cpp, {name}"] = lambda ids, path=path: llama_cpp(path, ids)
        except ImportError as e:
            print(f"llama.cpp: SKIPPED: {e}")
        try:
            torch, model = load_transformers()
            programs["transformers, fp32"] = lambda ids: transformers(torch, model, ids)
        except ImportError as e:
            print(f"transformers: SKIPPED: {e}")
        for length in LENGTHS:
            ids = prompt_ids(length)
            for _ in range(RUNS):
                for name, run in programs.items():
                    rows.setdefault((name, length), []).append(run(ids)[:2])
    print(f"{'':26}" + "".join(f"{f'prompt {n}':>14}{f'decode {n}':>14}" for n in LENGTHS) + f"   tokens/s, {THREADS} threads")
    for name in programs:
        line = f"{name:26}"
        for length in LENGTHS:
            for part in (0, 1):
                line += f"{statistics.median(r[part] for r in rows[name, length]):14.1f}"
        print(line)


main()
