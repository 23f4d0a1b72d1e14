"""A training step in PyTorch, with the model of `moba bench step` in test/gpu.sh: torch_step.py T WAY..., where WAY is
eager or compiled.

12 layers of 768 channels, 12 heads, SwiGLU of 2112, 50304 tokens, the embedding shared with the output: 125.4M weights.
A batch of 2, full attention by FlashAttention, fp32 weights and AdamW (fused), bf16 by autocast. Prints
"row WAY T MS TOKENS_PER_S".
"""
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

T, B, L, C, H, V = int(sys.argv[1]), 2, 12, 768, 12, 50304
D, I = C // H, C * 11 // 4
torch.set_default_device("cuda")


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(C))

    def forward(self, x):
        return F.rms_norm(x, (C,), self.w.to(x.dtype), 1e-5)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = Norm(), Norm()
        self.qkv, self.out = nn.Linear(C, 3 * C, bias=False), nn.Linear(C, C, bias=False)
        self.gate_up, self.down = nn.Linear(C, 2 * I, bias=False), nn.Linear(I, C, bias=False)

    def forward(self, x, cos, sin):
        q, k, v = self.qkv(self.norm1(x)).view(B, T, 3, H, D).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, C))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(V, C)
        self.layers = nn.ModuleList(Layer() for _ in range(L))
        self.norm = Norm()
        angle = torch.arange(T)[:, None] * 10000 ** (-torch.arange(0, D, 2) / D)
        self.cos, self.sin = angle.cos().bfloat16(), angle.sin().bfloat16()

    def forward(self, tokens, target):
        x = self.embedding(tokens).bfloat16()
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return F.cross_entropy(F.linear(self.norm(x), self.embedding.weight).view(-1, V), target.reshape(-1))


def step(model, forward, optimizer, tokens):
    with torch.autocast("cuda", torch.bfloat16), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        loss = forward(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def main():
    torch.manual_seed(1)
    model = Model()
    print(f"torch {torch.__version__} on {torch.cuda.get_device_name()}, {sum(p.numel() for p in model.parameters())} weights", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens = torch.randint(V, (B, T + 1))
    for way in sys.argv[2:]:
        forward = torch.compile(model) if way == "compiled" else model
        begin = time.monotonic()
        for _ in range(3):
            step(model, forward, optimizer, tokens)
        torch.cuda.synchronize()
        print(f"{way}: {time.monotonic() - begin:.1f} s for the first 3 steps", flush=True)
        times = []
        for _ in range(7):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            step(model, forward, optimizer, tokens)
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
        ms = statistics.median(times)
        print(f"row {way} {T} {ms:.2f} {B * T / ms * 1000:.0f}", flush=True)


main()
