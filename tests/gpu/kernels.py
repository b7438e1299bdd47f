"""Every CUDA kernel against float64: ``kernels.py build FILE [sm_90]`` anywhere, ``kernels.py run FILE`` with a GPU.

``run`` needs TVM's runtime and numpy only. It ends with status 1 where ||out - ref|| / ||ref|| is above 2e-3, or
where a token's numbers depend on how many tokens there are.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kvscape.quantization.decode import decode
from kvscape.quantization.encode import encode
from kvscape.quantization.format import FORMATS
from kvscape.quantization.kv import round_keys, round_values
from kvscape.quantization.layouts.fragments import FragmentLayout

Array = npt.NDArray[Any]
LIMIT = 2e-3
FORMAT_NAMES = ("f16", "q8f16_1", "q4f16_1", "q4af16_1", "q3f16_1")
SHAPES = ((576, 576), (320, 1536), (1024, 4096))
TOKENS = (1, 5, 8, 9, 16, 17, 130)
HEADS = ((9, 3, 64), (32, 8, 128), (4, 4, 32))
PAGE_SIZE = 16
RANGE = 64  # of the kernels


@dataclass(frozen=True)
class Checked:
    """What came out of one kernel; ``same`` says whether what must be equal to the last bit was."""

    name: str
    error: float
    same: bool = True

    @property
    def is_good(self) -> bool:
        return self.error <= LIMIT and self.same


def error(out: Array, reference: Array) -> float:
    return float(np.linalg.norm(out.astype(np.float64) - reference) / np.linalg.norm(reference))


def build(output: Path, architecture: str) -> None:
    """Compile all that ``run`` calls."""
    import tvm
    from tvm import ir, relax
    from tvm.target import Target

    from kvscape.compiler.device_code import device_code
    from kvscape.compiler.pipeline import lowering
    from kvscape.compiler.target import find_any_target
    from kvscape.compiler.write import write_library

    builder = relax.BlockBuilder()
    for name, function in functions():
        builder.add_func(function.with_attr("global_symbol", name), name)
    with builder.function("nothing", []):
        builder.emit_func_output(ir.StringImm(""))
    mod = tvm.IRModule(builder.get().functions)
    with lowering():
        executable = relax.build(
            relax.transform.VMShapeLower()(mod), Target(dict(find_any_target(architecture).tvm)), relax_pipeline=None
        )
    write_library(executable, output, device_code(mod, architecture))


def functions() -> Iterator[tuple[str, Any]]:
    from kvscape.compiler.kernels.cuda import attention, choices, linear, rows

    for fmt in map(FORMATS.__getitem__, FORMAT_NAMES):
        for N, K in SHAPES:
            yield f"linear_{fmt.name}_{N}x{K}", linear.linear_function(fmt, N, K)
            yield f"embedding_{fmt.name}_{N}x{K}", linear.embedding_function(fmt, N, K)
    for kv_dtype in attention.PAGES:
        for q_heads, heads, D in HEADS:
            for cap in (0.0, 20.0):
                shape = attention.Shape(kv_dtype, q_heads, heads, D, D, D**-0.5, cap)
                host = attention.paged_attention_function(shape, "float32", f"attention_{kv_dtype}_{D}_{cap:.0f}")
                yield f"attention_{kv_dtype}_{D}_{cap:.0f}", host
            yield f"append_{kv_dtype}_{D}", attention.rope_append_function(shape, f"append_{kv_dtype}_{D}")
    yield "rope_table", attention.rope_table_function("rope_table", 64, 1.5)
    yield "rms_norm", rows.rms_norm_function(576, 1e-5, "float32")
    yield "add_rms_norm", rows.add_rms_norm_function(576, 1e-5, "float16")
    yield "swiglu", rows.gated_function("swiglu", 96, "float16")
    yield "geglu", rows.gated_function("geglu", 96, "float32")
    yield "head_norm", rows.head_norm_function(9, 3, 64, 1e-5)
    yield "add_bias", rows.add_bias_function(960)
    yield "take_rows", rows.take_rows_function(576)
    yield "logprobs", choices.logprobs_function(5000)
    yield "greedy", choices.greedy_function(5000)


class Kernels:
    """``kernels(name, inputs, outputs)`` runs one on the GPU; outputs hold garbage before."""

    def __init__(self, library: Path) -> None:
        from kvscape.engine.devices.cuda_runtime import add_device_code, cuda_device
        from kvscape.engine.devices.library import load_library, read_device_code
        from kvscape.engine.devices.runtime import tvm

        self.device, self._tvm = cuda_device(0), tvm
        module = load_library(library)
        add_device_code(module, read_device_code(library))
        self._module = module.imports[0]

    def tensor(self, array: Array) -> Any:
        return self._tvm.runtime.tensor(array, self.device)

    def function(self, name: str) -> Any:
        return self._module.get_function(name, query_imports=True)

    def __call__(self, name: str, inputs: Sequence[Any], outputs: Sequence[tuple[tuple[int, ...], str]]) -> list[Array]:
        garbage = [np.frombuffer(b"\x7b" * (int(np.prod(s)) * np.dtype(d).itemsize), d).reshape(s) for s, d in outputs]
        results = [self.tensor(array.copy()) for array in garbage]
        arguments = [self.tensor(value) if isinstance(value, np.ndarray) else value for value in inputs]
        self.function(name)(*arguments, *results)
        return [result.numpy() for result in results]


def weights(name: str, N: int, K: int, rng: np.random.Generator) -> tuple[list[Array], Array]:
    """Packed arrays, and the numbers they stand for."""
    fmt = FORMATS[name]
    values = (rng.standard_normal((N, K)) * 0.05).astype(np.float16)
    arrays = {"weight": values} if fmt.is_float else encode(values.astype(np.float32), fmt)
    reference = values if fmt.is_float else decode(arrays, fmt)[:, :K]
    return list(FragmentLayout().pack(arrays, fmt).values()), reference.astype(np.float64)


def check_linear(kernels: Kernels, rng: np.random.Generator) -> Iterator[Checked]:
    for name in FORMAT_NAMES:
        for N, K in SHAPES:
            packed, reference = weights(name, N, K, rng)
            x = rng.standard_normal((max(TOKENS), K)).astype(np.float16)
            wanted = x.astype(np.float64) @ reference.T
            found = [kernels(f"linear_{name}_{N}x{K}", [*packed, x[:n]], [((n, N), "float32")])[0] for n in TOKENS]
            worst = max(error(y, wanted[: len(y)]) for y in found)
            same = all(np.array_equal(y, found[-1][: len(y)]) for y in found)
            yield Checked(f"linear_{name}_{N}x{K}", worst, same)
            ids = rng.integers(0, N, 7).astype(np.int32)
            (y,) = kernels(f"embedding_{name}_{N}x{K}", [*packed, ids], [((7, K), "float32")])
            yield Checked(f"embedding_{name}_{N}x{K}", error(y, reference[ids]))


def check_rows(kernels: Kernels, rng: np.random.Generator) -> Iterator[Checked]:
    n, K = 5, 576
    x, r = rng.standard_normal((2, n, K)).astype(np.float32)
    w = rng.standard_normal(K).astype(np.float32)

    def norm(values: Array) -> Array:
        values = values.astype(np.float64)
        result: Array = values / np.sqrt((values**2).mean(-1, keepdims=True) + 1e-5) * w[: values.shape[-1]]
        return result

    (y,) = kernels("rms_norm", [x, w], [((n, K), "float32")])
    yield Checked("rms_norm", error(y, norm(x)))
    y, total = kernels("add_rms_norm", [x, r, w], [((n, K), "float16"), ((n, K), "float32")])
    yield Checked("add_rms_norm", max(error(y, norm(x + r)), error(total, (x + r).astype(np.float64))))
    gate, up = np.split(x[:, :192].astype(np.float64), 2, axis=1)
    (y,) = kernels("swiglu", [np.ascontiguousarray(x[:, :192])], [((n, 96), "float16")])
    yield Checked("swiglu", error(y, gate / (1 + np.exp(-gate)) * up))
    (y,) = kernels("geglu", [np.ascontiguousarray(x[:, :192])], [((n, 96), "float32")])
    bent = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
    yield Checked("geglu", error(y, bent * up))
    qkv = rng.standard_normal((n, 15, 64)).astype(np.float32)
    (y,) = kernels("head_norm", [qkv.reshape(n, -1), w[:64].copy(), w[:64].copy()], [((n, 960), "float32")])
    yield Checked("head_norm", error(y.reshape(n, 15, 64), np.concatenate([norm(qkv[:, :12]), qkv[:, 12:]], 1)))
    bias = rng.standard_normal(960).astype(np.float32)
    (y,) = kernels("add_bias", [qkv.reshape(n, -1), bias], [((n, 960), "float32")])
    yield Checked("add_bias", error(y, qkv.reshape(n, -1).astype(np.float64) + bias))
    (y,) = kernels("take_rows", [x, np.array([4, 1], np.int32)], [((2, K), "float32")])
    yield Checked("take_rows", error(y, x[[4, 1]].astype(np.float64)))
    positions, frequency = np.array([0, 7, 100_000], np.int32), (10000.0 ** -(np.arange(32) / 32)).astype(np.float32)
    (y,) = kernels("rope_table", [positions, frequency], [((3, 64), "float32")])
    angle = positions[:, None].astype(np.float64) * frequency
    yield Checked("rope_table", error(y, 1.5 * np.concatenate([np.cos(angle), np.sin(angle)], 1)))


def check_choices(kernels: Kernels, rng: np.random.Generator) -> Iterator[Checked]:
    logits = (rng.standard_normal((4, 5000)) * 5).astype(np.float32)
    logits[2, [77, 4000]] = 99
    (y,) = kernels("greedy", [logits], [((4,), "int32")])
    yield Checked("greedy", 0.0, bool(np.array_equal(y, logits.argmax(1))))
    ids = np.array([0, 17, 77, 4999], np.int32)
    (y,) = kernels("logprobs", [logits, ids], [((4,), "float32")])
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(1, keepdims=True)
    yield Checked("logprobs", error(y, (shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))[range(4), ids]))


@dataclass(frozen=True)
class Seen:
    """Sequences' lengths and how many of their last tokens a step has; window: sinks and recent tokens."""

    name: str
    lengths: tuple[int, ...]
    new: tuple[int, ...]
    sinks: int = 0
    recent: int = 1 << 30
    split: bool = False


LONG = (1, 64, 65, 300, 1000)
STEPS = (
    Seen("decode", LONG, (1,) * 5),
    Seen("decode split", LONG, (1,) * 5, split=True),
    Seen("prefill", (37, 700), (37, 300)),
    Seen("window", (300, 700), (40, 1), 4, 150),
    Seen("window split", LONG, (1,) * 5, 4, 150, True),
)


def check_attention(
    kernels: Kernels, rng: np.random.Generator, kv_dtype: str, heads: tuple[int, int, int]
) -> Iterator[Checked]:
    from kvscape.engine.devices.tiles import query_tiles, token_ranges

    q_heads, H, D = heads
    for seen in STEPS:
        tables, pages = _tables(seen.lengths)
        token_bytes = H * (2 * D * 2 if kv_dtype == "f16" else 2 * (D + 2))
        pool = kernels.tensor(np.full((2, pages, PAGE_SIZE * token_bytes), 0x7B, np.uint8))
        qkv = [rng.standard_normal((length, q_heads + 2 * H, D)).astype(np.float32) for length in seen.lengths]
        table = np.concatenate([np.ones((sum(seen.lengths), D // 2)), np.zeros((sum(seen.lengths), D // 2))], 1)
        angles = rng.standard_normal((sum(seen.lengths), D // 2))
        sink_table = np.concatenate([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
        slots = np.concatenate(
            [
                tables[i, np.arange(length) // PAGE_SIZE] * PAGE_SIZE + np.arange(length) % PAGE_SIZE
                for i, length in enumerate(seen.lengths)
            ]
        ).astype(np.int32)
        shape = ((len(slots), q_heads * D), "float32")
        q, sink_q = kernels(
            f"append_{kv_dtype}_{D}",
            [np.concatenate(qkv).reshape(len(slots), -1), table.astype(np.float32), sink_table, slots, pool, 1],
            [shape, shape],
        )
        ends = np.cumsum(seen.lengths)
        rows = np.concatenate([np.arange(end - new, end) for end, new in zip(ends, seen.new, strict=True)])
        positions = np.concatenate(
            [np.arange(length - new, length) for length, new in zip(seen.lengths, seen.new, strict=True)]
        ).astype(np.int32)
        starts = [0, *np.cumsum(seen.new).tolist()]
        groups = [0] * len(seen.new)
        pieces: list[int] = []
        tiles = query_tiles(starts, max(1, 64 // (q_heads // H)), 3, groups)
        if seen.split:
            tiles, pieces = token_ranges([-(-length // RANGE) for length in seen.lengths], groups)
        for cap in (0.0, 20.0):
            window = np.array([seen.sinks, seen.recent], np.int32)
            inputs = [
                q[rows],
                sink_q[rows],
                pool,
                tables,
                np.array(tiles, np.int32),
                np.array(pieces, np.int32),
                positions,
                window,
                1,
            ]
            out, _ = kernels(
                f"attention_{kv_dtype}_{D}_{cap:.0f}",
                inputs,
                [((len(rows), q_heads * D), "float32"), ((len(tiles) * q_heads * (D + 2),), "float32")],
            )
            wanted = np.concatenate(
                [
                    _reference(x, new, seen, kv_dtype, q_heads, H, cap, angles[end - len(x) : end])
                    for x, new, end in zip(qkv, seen.new, ends, strict=True)
                ]
            )
            yield Checked(
                f"attention {kv_dtype} {q_heads}/{H}x{D} {seen.name} cap {cap:.0f}",
                error(out.reshape(wanted.shape), wanted),
            )


def _tables(lengths: Sequence[int]) -> tuple[npt.NDArray[np.int32], int]:
    """Pages in an order of their own."""
    counts = [-(-length // PAGE_SIZE) for length in lengths]
    order = np.random.default_rng(1).permutation(sum(counts)).astype(np.int32)
    tables = np.zeros((len(lengths), max(counts)), np.int32)
    for i, part in enumerate(np.split(order, np.cumsum(counts)[:-1])):
        tables[i, : len(part)] = part
    return tables, sum(counts)


def _reference(x: Array, new: int, seen: Seen, kv_dtype: str, q_heads: int, H: int, cap: float, angles: Array) -> Array:
    length, D = len(x), x.shape[2]
    keys, values = round_keys(x[:, q_heads : q_heads + H], kv_dtype), round_values(x[:, q_heads + H :], kv_dtype)
    q = x[length - new :, :q_heads].astype(np.float64)
    low, high = np.split(q, 2, axis=2)
    cos, sin = np.cos(angles[length - new :, None]), np.sin(angles[length - new :, None])
    turned = np.concatenate([low * cos - high * sin, low * sin + high * cos], 2)
    group = q_heads // H
    wide_keys, wide_values = (np.repeat(part.astype(np.float64), group, 1) for part in (keys, values))
    scores, sink_scores = (np.einsum("qhd,khd->hqk", each, wide_keys) * D**-0.5 for each in (q, turned))
    key, position = np.arange(length), np.arange(length - new, length)[:, None]
    scores = np.where(key < seen.sinks, sink_scores, scores)
    scores = cap * np.tanh(scores / cap) if cap else scores
    visible = (key <= position) & ((key < seen.sinks) | (key > position - seen.recent))
    weights_ = np.where(visible, np.exp(scores - scores.max(-1, keepdims=True)), 0)
    result: Array = np.einsum("hqk,khd->qhd", weights_ / weights_.sum(-1, keepdims=True), wide_values)
    return result


def run(library: Path) -> int:
    kernels, rng = Kernels(library), np.random.default_rng(0)
    checks: list[Callable[[], Iterator[Checked]]] = [
        lambda: check_rows(kernels, rng),
        lambda: check_choices(kernels, rng),
        lambda: check_linear(kernels, rng),
    ]
    checks += [
        lambda kv=kv, heads=heads: check_attention(kernels, rng, kv, heads)  # type: ignore[misc]
        for kv in ("f16", "int8")
        for heads in HEADS
    ]
    bad = 0
    for check in checks:
        for checked in check():
            bad += not checked.is_good
            mark = "" if checked.is_good else "  BAD" if checked.same else "  BAD: it depends on the batch"
            print(f"{checked.name:50} {checked.error:.1e}{mark}", flush=True)
    print(f"{bad} bad")
    return int(bad > 0)


if __name__ == "__main__":
    if sys.argv[1] == "build":
        build(Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "sm_90")
    else:
        sys.exit(run(Path(sys.argv[2])))
