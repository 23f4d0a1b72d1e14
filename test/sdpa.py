"""PyTorch's attention at the sizes of moba bench attention: sdpa.py fp32|bf16 T REPEATS. Causal, B=2 H=16 D=128."""
import statistics
import sys

import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[sys.argv[1]]
T, repeats = int(sys.argv[2]), int(sys.argv[3])
B, H, D = 2, 16, 128
torch.manual_seed(1)
q, k, v, dout = (torch.randn(B, H, T, D, device="cuda", dtype=dtype) for _ in range(4))
for x in (q, k, v):
    x.requires_grad_()


def median_ms(run):
    run()
    times = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def both():
    torch.autograd.grad(sdpa(q, k, v, is_causal=True), (q, k, v), dout)


with torch.no_grad():
    forward = median_ms(lambda: sdpa(q, k, v, is_causal=True))
print(f"torch {torch.__version__} on {torch.cuda.get_device_name()}, {sys.argv[1]}, B={B} T={T} H={H} D={D}, median of {repeats}")
print(f"forward_ms {forward:.3f}")
print(f"total_ms {median_ms(both):.3f}")
