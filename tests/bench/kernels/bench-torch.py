#!/usr/bin/env python3
"""The same sizes as bench-kernels through PyTorch, to be run in the same session: milliseconds and TFLOP/s."""
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

BF16 = {"dtype": torch.bfloat16, "device": "cuda"}


def measure(name, call, flops):
    try:
        call()
        call()
    except Exception as e:  # a missing engine is a line, not the end
        print(f"{name:<44} {type(e).__name__}: {str(e).splitlines()[0][:60]}")
        return
    times = []
    for _ in range(7):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    ms = sorted(times)[3]
    print(f"{name:<44} {ms:10.3f} ms {flops / ms * 1e-9:8.1f} TFLOP/s", flush=True)


def linear(name, m, n, k):
    x, w, b = torch.randn(m, k, **BF16), torch.randn(n, k, **BF16), torch.randn(n, **BF16)
    measure(name, lambda: F.linear(x, w, b), 2 * m * n * k)


def attention(name, t, heads, d, engine):
    q, k, v = (torch.randn(1, heads, t, d, **BF16) for _ in range(3))

    def call():
        with sdpa_kernel(engine):
            F.scaled_dot_product_attention(q, k, v)

    measure(name, call, 4 * t * t * heads * d)


def conv(name, t, h, w, c, n):
    x = torch.randn(1, c, t, h, w, **BF16).to(memory_format=torch.channels_last_3d)
    weight = torch.randn(n, c, 3, 3, 3, **BF16).to(memory_format=torch.channels_last_3d)
    measure(name, lambda: F.conv3d(x, weight, padding=(1, 1, 1)), 2 * 27 * t * h * w * c * n)


print("torch", torch.__version__, torch.cuda.get_device_name())
torch.backends.cudnn.benchmark = "--search" in sys.argv
linear("linear 8192x8192x8192", 8192, 8192, 8192)
linear("linear ffn up 27280x14336x3072", 27280, 14336, 3072)
attention("attention flash 27280 24x128", 27280, 24, 128, SDPBackend.FLASH_ATTENTION)
attention("attention cudnn 27280 24x128", 27280, 24, 128, SDPBackend.CUDNN_ATTENTION)
conv("conv3d level 2 4x176x320 512->512", 4, 176, 320, 512, 512)
conv("conv3d level 3 4x352x640 256->256", 4, 352, 640, 256, 256)
