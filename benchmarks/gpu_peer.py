"""What PyTorch alone reaches on a GPU, at the shape of Llama-3-8B with random weights: the peer of ``gpu.py``.

``gpu_peer.py int4 16`` (weights, or bf16, and batch) compiles, says ``{"ready_s": ...}`` and answers each line that it
reads with a line of JSON: tokens a second of prefill and of decode, as ``gpu.py`` measures its own; after ``copy`` the
copy rate. Decode is ``torch.compile`` over a static cache, in one graph, which leaves the host nothing to do; int4 is
PyTorch's own product in groups of 32. Prefill is eager.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN, INNER, LAYERS, QUERY_HEADS, KEY_HEADS, DIM, VOCABULARY = 4096, 14336, 32, 32, 8, 128, 128256
GROUP, EPS, THETA = 32, 1e-5, 500_000.0
PROMPT, DECODED, WARM_UP = 512, 64, 5
BF16 = {"dtype": torch.bfloat16, "device": "cuda"}


class Bf16(nn.Module):
    """A matrix of bf16 numbers."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(rows, columns, **BF16) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight)


class Int4(nn.Module):
    """Codes of four bits with a scale and a zero for each group of columns, in PyTorch's own order."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        codes = torch.randint(0, 256, (rows, columns // 2), dtype=torch.uint8, device="cuda")
        self.register_buffer("codes", torch.ops.aten._convert_weight_to_int4pack(codes, 8))
        self.register_buffer("scales", torch.randn(columns // GROUP, rows, 2, **BF16) * 0.01)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        product = torch.ops.aten._weight_int4pack_mm(flat, self.codes, GROUP, self.scales)
        return product.reshape(*x.shape[:-1], -1)


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return functional.rms_norm(x, (x.shape[-1],), weight, EPS)


def rotated(x: Tensor, table: Tensor) -> Tensor:
    """``x`` [batch, heads, tokens, DIM] at the angles of ``table`` [tokens, DIM / 2]."""
    low, high = x.float().chunk(2, -1)
    cos, sin = table.cos(), table.sin()
    return torch.cat((low * cos - high * sin, high * cos + low * sin), -1).to(x.dtype)


class Block(nn.Module):
    """A layer with its own keys and values."""

    def __init__(self, matrix: Callable[[int, int], nn.Module], batch: int, context: int) -> None:
        super().__init__()
        self.qkv = matrix((QUERY_HEADS + 2 * KEY_HEADS) * DIM, HIDDEN)
        self.out = matrix(HIDDEN, HIDDEN)
        self.gate_up, self.down = matrix(2 * INNER, HIDDEN), matrix(HIDDEN, INNER)
        for name in ("before", "between"):
            self.register_buffer(name, torch.ones(HIDDEN, **BF16))
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(batch, KEY_HEADS, context, DIM, **BF16))

    def forward(self, x: Tensor, positions: Tensor, table: Tensor, seen: Tensor) -> Tensor:
        heads = self.qkv(norm(x, self.before)).unflatten(-1, (-1, DIM)).transpose(1, 2)
        queries, keys, values = heads.split((QUERY_HEADS, KEY_HEADS, KEY_HEADS), 1)
        keys, mask = rotated(keys, table), {"is_causal": True}
        self.keys[:, :, positions] = keys
        self.values[:, :, positions] = values
        if x.shape[1] == 1:  # else a prompt, which is all that there is
            keys, values, mask = self.keys, self.values, {"attn_mask": seen}
        attended = functional.scaled_dot_product_attention(
            rotated(queries, table), keys, values, **mask, enable_gqa=True
        )
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(norm(x, self.between)).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)


class Llama(nn.Module):
    def __init__(self, matrix: Callable[[int, int], nn.Module], batch: int, context: int) -> None:
        super().__init__()
        self.register_buffer("embedding", torch.randn(VOCABULARY, HIDDEN, **BF16))
        self.blocks = nn.ModuleList(Block(matrix, batch, context) for _ in range(LAYERS))
        self.register_buffer("last", torch.ones(HIDDEN, **BF16))
        self.head = matrix(VOCABULARY, HIDDEN)
        frequency = THETA ** -(torch.arange(0, DIM, 2, device="cuda") / DIM)
        self.register_buffer("angles", torch.arange(context, device="cuda")[:, None] * frequency)
        self.register_buffer("mask", torch.ones(context, context, dtype=torch.bool, device="cuda").tril())

    def forward(self, token_ids: Tensor, positions: Tensor) -> Tensor:
        """The likeliest next token of each text, [batch, 1]."""
        x, table, seen = self.embedding[token_ids], self.angles[positions], self.mask[None, None, positions]
        for block in self.blocks:
            x = block(x, positions, table, seen)
        return self.head(norm(x[:, -1:], self.last)).argmax(-1)


def seconds(run: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


class Peer:
    """One kind of weights and one batch: compiled and recorded once."""

    def __init__(self, weights: str, batch: int) -> None:
        self.batch = batch
        self.model = Llama({"int4": Int4, "bf16": Bf16}[weights], batch, 2 * PROMPT).eval()
        self.prompts = torch.randint(0, VOCABULARY, (batch, PROMPT), device="cuda")
        self.prompt_positions = torch.arange(PROMPT, device="cuda")
        self.token_ids, self.position = self.prompts[:, :1].clone(), torch.tensor([PROMPT], device="cuda")
        self.compiled = torch.compile(self.model.forward, fullgraph=True)
        for _ in range(2):
            self.model(self.prompts, self.prompt_positions)
        torch.cuda.empty_cache()
        self.graph = self.recorded()

    def step(self) -> None:
        """The next token in the place of the last one."""
        self.token_ids.copy_(self.compiled(self.token_ids, self.position))
        self.position.add_(1)

    def recorded(self) -> torch.cuda.CUDAGraph:
        """A step as one graph; what is recorded must have run on another stream before."""
        other = torch.cuda.Stream()
        other.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(other):
            for _ in range(WARM_UP):
                self.step()
        torch.cuda.current_stream().wait_stream(other)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        return graph

    def steps(self) -> None:
        """Decode without waiting for a token, which is the peer's best."""
        self.position.fill_(PROMPT)
        for _ in range(DECODED):
            self.graph.replay()

    def measure(self) -> dict[str, float]:
        prefill_s = min(seconds(lambda: self.model(self.prompts, self.prompt_positions)) for _ in range(2))
        self.steps()
        return {
            "prefill_tokens_per_s": self.batch * PROMPT / prefill_s,
            "decode_tokens_per_s": self.batch * DECODED / seconds(self.steps),
        }


def copied_bytes_per_s() -> float:
    here, there = (torch.empty(1 << 30, dtype=torch.uint8, device="cuda") for _ in range(2))
    there.copy_(here)
    return 2 * here.nbytes * 20 / seconds(lambda: [there.copy_(here) for _ in range(20)])


@torch.no_grad()
def main() -> None:
    answers, start = os.fdopen(os.dup(1), "w"), time.perf_counter()
    os.dup2(2, 1)  # what libraries print is no answer
    torch.set_float32_matmul_precision("high")
    peer = Peer(sys.argv[1], int(sys.argv[2]))
    print(json.dumps({"ready_s": time.perf_counter() - start}), file=answers, flush=True)
    for line in sys.stdin:
        answer = {"copied_bytes_per_s": copied_bytes_per_s()} if line.strip() == "copy" else peer.measure()
        print(json.dumps(answer), file=answers, flush=True)
        torch.cuda.empty_cache()  # the other one on this GPU needs memory, too


if __name__ == "__main__":
    main()
