"""Times PyTorch's attention at the sizes of test/gpu.sh: sdpa.py SECONDS. Causal, B=2, 16 heads, bf16; by
FlashAttention and by cuDNN.

Prints "row BACKEND PRECISION D T FORWARD_MS BACKWARD_MS" for each size, or the reason instead of the times. A size is
left out if the previous size of the same kind predicts that it takes longer than the seconds that are left.
"""
import statistics
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention as sdpa

end = time.monotonic() + float(sys.argv[1])
B, H = 2, 16
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION}
if hasattr(SDPBackend, "CUDNN_ATTENTION"):  # since 2.5
    BACKENDS["cudnn"] = SDPBackend.CUDNN_ATTENTION
SIZES = [(128, T) for T in (8192, 16384, 32768, 65536)] + [(64, 8192), (64, 65536)]
SIZES += [(128, 131072), (128, 262144), (64, 524288), (128, 524288)]


# The first run does not count. If a run takes seconds, there is only one.
def median_ms(run, repeats):
    if repeats > 1:
        run()
    times = []
    for _ in range(repeats):
        begin, done = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        done.record()
        done.synchronize()
        times.append(begin.elapsed_time(done))
    return statistics.median(times)


def measure(backend, D, T):
    repeats = max(1, min(9, 300000 // T))
    with sdpa_kernel(backend):
        q, k, v, dout = (torch.randn(B, H, T, D, device="cuda", dtype=torch.bfloat16) for _ in range(4))
        with torch.no_grad():
            forward = median_ms(lambda: sdpa(q, k, v, is_causal=True), repeats)
        for x in (q, k, v):
            x.requires_grad_()
        both = median_ms(lambda: torch.autograd.grad(sdpa(q, k, v, is_causal=True), (q, k, v), dout), repeats)
    return forward, both - forward


def main():
    print(f"torch {torch.__version__} on {torch.cuda.get_device_name()}, cuDNN {torch.backends.cudnn.version()}", flush=True)
    torch.manual_seed(1)
    last = {}
    for D, T in SIZES:
        for name, backend in BACKENDS.items():
            seconds = 0
            if (name, D) in last:
                T0, seconds0 = last[name, D]
                seconds = seconds0 * (T / T0) ** 2
            if seconds > end - time.monotonic():
                print(f"row {name} bf16 {D} {T} would take {seconds:.0f} s", flush=True)
                continue
            try:
                forward, backward = measure(backend, D, T)
                last[name, D] = T, (2 * forward + backward) / 1000
                print(f"row {name} bf16 {D} {T} {forward:.4f} {backward:.4f}", flush=True)
            # backend not available, or not enough memory: continue with the other sizes
            except Exception as e:
                print(f"row {name} bf16 {D} {T} {str(e).splitlines()[0][:60]}", flush=True)
            torch.cuda.empty_cache()


main()
