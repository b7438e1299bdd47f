"""PyTorch's products of f16 numbers: reads ``[[n, N, K], ...]`` as JSON, says the median seconds of each."""

import json
import sys
from itertools import pairwise
from statistics import median

import torch


def seconds(n: int, N: int, K: int, rounds: int = 10) -> float:
    x, w = (torch.randn(size, K, dtype=torch.float16, device="cuda") for size in (n, N))
    events = [torch.cuda.Event(enable_timing=True) for _ in range(rounds + 1)]
    for _ in range(3):
        x @ w.T
    for event in events:
        event.record()
        x @ w.T
    torch.cuda.synchronize()
    return median(a.elapsed_time(b) for a, b in pairwise(events)) / 1e3


print(json.dumps([seconds(*sizes) for sizes in json.load(sys.stdin)]))
