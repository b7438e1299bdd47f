"""Every CUDA kernel against float64: ``kernels.py build FILE [sm_90]`` anywhere, ``kernels.py run FILE`` with a GPU.

``run`` needs TVM's runtime and numpy only. It ends with status 1 where ||out - ref|| / ||ref|| is above 2e-3, or
where a token's numbers depend on how many tokens there are.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import attention_checks
import draw_checks
import edit_checks
import numpy as np
from checked import Array, Checked, error, report

from kvscape.analysis.cuda import gpus
from kvscape.quantization.decode import decode
from kvscape.quantization.encode import encode
from kvscape.quantization.format import FORMATS
from kvscape.quantization.layouts.fragments import FragmentLayout, chunks, group_size

FORMAT_NAMES = ("f16", "q8f16_1", "q4f16_1", "q4af16_1", "q3f16_1", "f32", "q8f32_1", "q4f32_1")
Named: TypeAlias = tuple[str, Any]
Output: TypeAlias = tuple[tuple[int, ...], str]


class Shape(NamedTuple):
    """A weight [N, K]; ``way`` is how some tokens are multiplied: 16 in ``passes``, ``whole`` or ``split`` rows."""

    N: int
    K: int
    way: str = "passes"


@dataclass(frozen=True)
class Sizes:
    """How much is checked: ``shapes`` of weights, those of f32 numbers or scales in the first one alone.

    ``tokens`` of products, tokens to draw from and ``draws`` from each distribution, and the steps of attention.
    """

    shapes: tuple[Shape, ...]
    tokens: tuple[int, ...]
    vocab: int
    draws: int
    steps: tuple[attention_checks.Seen, ...]
    architecture: str = "sm_90"
    processors: int = 132

    def scratch(self, name: str, n: int, shape: Shape) -> list[Output]:
        """What a product of ``n`` tokens takes besides: room for whole tiles and chunks, where warpgroups multiply, and
        for 64 tokens' sums in 8 ranges."""
        columns = chunks(FORMATS[name], shape.K) * 4 * group_size(FORMATS[name])
        arranged: list[Output] = [((-(-n // 128) * 128 * columns,), "float16")]
        partials: list[Output] = [((8 * 64 * shape.N,), "float32")]
        return arranged * (self.architecture == "sm_90") + partials * (shape.way == "split")

    def of(self, name: str) -> tuple[Shape, ...]:
        return self.shapes[:1] if "f32" in name else self.shapes


WHOLE = Sizes(
    (Shape(576, 576), Shape(320, 1536, "whole"), Shape(1024, 4096, "split")),
    (1, 5, 8, 9, 16, 17, 24, 25, 32, 33, 64, 65, 130, 2200),
    128_256,
    4,
    attention_checks.steps(1000),
)
# For tools that watch every access: each kernel, each of its paths, not more.
SMALL = Sizes(
    (Shape(448, 1536), Shape(96, 1536, "whole"), Shape(160, 1536, "split")),
    (1, 9, 17, 33, 130, 300),
    9_000,
    1,
    attention_checks.steps(200),
    processors=3,
)


@dataclass(frozen=True)
class Part:
    """Kernels that are checked together: their functions by name, and what calls them."""

    name: str
    functions: Callable[[], Iterator[Named]]
    check: Callable[["Kernels", np.random.Generator], Iterator[Checked]]


def build(output: Path, architecture: str, chosen: Sequence[Part]) -> None:
    """Compile what these parts call."""
    import tvm
    from tvm import ir, relax
    from tvm.target import Target

    from kvscape.compiler.device_code import device_code
    from kvscape.compiler.pipeline import lowering
    from kvscape.compiler.target import find_any_target
    from kvscape.compiler.write import write_library

    builder = relax.BlockBuilder()
    for name, function in (named for part in chosen for named in part.functions()):
        builder.add_func(function.with_attr("global_symbol", name), name)
    with builder.function("nothing", []):
        builder.emit_func_output(ir.StringImm(""))
    mod = tvm.IRModule(builder.get().functions)
    with lowering():
        executable = relax.build(
            relax.transform.VMShapeLower()(mod), Target(dict(find_any_target(architecture).tvm)), relax_pipeline=None
        )
    write_library(executable, output, device_code(mod, architecture))


def linear_functions(name: str, sizes: Sizes) -> Iterator[Named]:
    from kvscape.compiler.kernels.cuda import linear, products
    from kvscape.compiler.kernels.cuda.some import Some

    fmt, many = FORMATS[name], products.many(sizes.architecture, sizes.processors)
    ways = {"whole": Some(4), "split": Some(4, is_split=True)}
    for N, K, way in sizes.of(name):
        for key, gate in (("linear", ""), ("linear_swiglu", "swiglu")):
            product = products.Product(fmt, N, K, gate)
            yield f"{key}_{name}_{N}x{K}", linear.linear_function(product, many, ways.get(way))
        yield f"embedding_{name}_{N}x{K}", linear.embedding_function(fmt, N, K)


def row_functions() -> Iterator[Named]:
    from kvscape.compiler.kernels.cuda import attention, rows

    yield "rope_table", attention.rope_table_function("rope_table", 64, 1.5)
    yield "rms_norm", rows.rms_norm_function(576, 1e-5, "float32")
    yield "add_rms_norm", rows.add_rms_norm_function(576, 1e-5, "float16")
    yield "swiglu", rows.gated_function("swiglu", 96, "float16")
    yield "geglu", rows.gated_function("geglu", 96, "float32")
    yield "head_norm", rows.head_norm_function(9, 3, 64, 1e-5)
    yield "add_bias", rows.add_bias_function(960)
    yield "take_rows", rows.take_rows_function(576)


def choice_functions(sizes: Sizes) -> Iterator[Named]:
    from kvscape.compiler.kernels.cuda import choices

    yield "logprobs", choices.logprobs_function(sizes.vocab)
    yield "greedy", choices.greedy_function(sizes.vocab)
    yield "greedy_odd", choices.greedy_function(draw_checks.ODD, "greedy_odd")


class Kernels:
    """``kernels(name, inputs, outputs)`` runs one on the GPU; outputs hold garbage before."""

    def __init__(self, library: Path) -> None:
        from kvscape.engine.devices.cuda.runtime import add_device_code, cuda_device
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

    def __call__(self, name: str, inputs: Sequence[Any], outputs: Sequence[Output]) -> list[Array]:
        garbage = [np.frombuffer(b"\x7b" * (int(np.prod(s)) * np.dtype(d).itemsize), d).reshape(s) for s, d in outputs]
        results = [self.tensor(array.copy()) for array in garbage]
        arguments = [self.tensor(value) if isinstance(value, np.ndarray) else value for value in inputs]
        self.function(name)(*arguments, *results)
        return [result.numpy() for result in results]


def weights(name: str, N: int, K: int, rng: np.random.Generator) -> tuple[list[Array], Array]:
    """Packed arrays, and the numbers they stand for."""
    fmt = FORMATS[name]
    values = (rng.standard_normal((N, K)) * 0.05).astype(f"float{fmt.bits}" if fmt.is_float else np.float16)
    arrays = {"weight": values} if fmt.is_float else encode(values.astype(np.float32), fmt)
    reference = values if fmt.is_float else decode(arrays, fmt)[:, :K]
    return list(FragmentLayout().pack(arrays, fmt).values()), reference.astype(np.float64)


def check_linear(name: str, sizes: Sizes, kernels: Kernels, rng: np.random.Generator) -> Iterator[Checked]:
    for shape in sizes.of(name):
        N, K, _ = shape
        packed, reference = weights(name, N, K, rng)
        x = rng.standard_normal((max(sizes.tokens), K)).astype(np.float16)
        wanted = x.astype(np.float64) @ reference.T
        gates, ups = np.split(wanted, 2, axis=1)
        gated = ups * gates / (1 + np.exp(-gates))
        for key, y, dtype in (("linear", wanted, "float32"), ("linear_swiglu", gated, "float16")):
            outputs = [[((n, y.shape[1]), dtype), *sizes.scratch(name, n, shape)] for n in sizes.tokens]
            yield _products(kernels, f"{key}_{name}_{N}x{K}", packed, x, y, outputs)
        ids = rng.integers(0, N, 7).astype(np.int32)
        (y,) = kernels(f"embedding_{name}_{N}x{K}", [*packed, ids], [((7, K), "float32")])
        yield Checked(f"embedding_{name}_{N}x{K}", error(y, reference[ids]))


def _products(
    kernels: Kernels, key: str, packed: list[Array], x: Array, wanted: Array, outputs: Sequence[Sequence[Output]]
) -> Checked:
    """A product for each number of tokens: of each token there must be the same numbers, to the last bit."""
    found = [kernels(key, [*packed, x[: each[0][0][0]]], each)[0] for each in outputs]
    worst = max(error(y, wanted[: len(y)]) for y in found)
    return Checked(key, worst, all(np.array_equal(y, found[-1][: len(y)]) for y in found))


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


def check_choices(sizes: Sizes, kernels: Kernels, rng: np.random.Generator) -> Iterator[Checked]:
    for name, vocab in (("greedy", sizes.vocab), ("greedy_odd", draw_checks.ODD)):
        logits = draw_checks.rare_logits(vocab, rng)
        logits[1, [77, 4000]] = 99
        (y,) = kernels(name, [logits], [((len(logits),), "int32")])
        yield Checked(name, 0.0, bool(np.array_equal(y, np.where(np.isnan(logits), -np.inf, logits).argmax(1))))
    logits, ids = (rng.standard_normal((4, sizes.vocab)) * 5).astype(np.float32), np.array([0, 17, 77, 4999], np.int32)
    (y,) = kernels("logprobs", [logits, ids], [((4,), "float32")])
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(1, keepdims=True)
    yield Checked("logprobs", error(y, (shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))[range(4), ids]))


def parts(sizes: Sizes = WHOLE) -> list[Part]:
    draws = partial(draw_checks.check, sizes.vocab, sizes.draws)
    return [
        Part("rows", row_functions, check_rows),
        Part("choices", partial(choice_functions, sizes), partial(check_choices, sizes)),
        Part("draws", partial(draw_checks.functions, sizes.vocab), draws),
        Part("edits", partial(edit_checks.functions, sizes.vocab), partial(edit_checks.check, sizes.vocab)),
        *(
            Part(f"linear {name}", partial(linear_functions, name, sizes), partial(check_linear, name, sizes))
            for name in FORMAT_NAMES
        ),
        *(
            Part(
                heads.title,
                partial(attention_checks.functions, heads),
                partial(attention_checks.check, heads, sizes.steps),
            )
            for heads in attention_checks.HEADS
        ),
    ]


def chosen(only: str, sizes: Sizes = WHOLE) -> list[Part]:
    return [part for part in parts(sizes) if only in part.name]


def run(library: Path, parts: Sequence[Part]) -> int:
    kernels, rng = Kernels(library), np.random.default_rng(0)
    return report(checked for part in parts for checked in part.check(kernels, rng))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("build", "run"))
    parser.add_argument("file", type=Path)
    parser.add_argument("architecture", nargs="?", default="sm_90")
    parser.add_argument("--only", default="", help="what is in a part's name, e.g. rows, linear or 'attention int4 64'")
    parser.add_argument("--small", action="store_true", help="few sizes, as for sanitizers: give it to both commands")
    asked = parser.parse_args()
    is_run, sizes = asked.command == "run", SMALL if asked.small else WHOLE
    architecture = gpus().found[0].architecture if is_run else asked.architecture
    found = chosen(asked.only, replace(sizes, architecture=architecture))
    if is_run:
        return run(asked.file, found)
    build(asked.file, asked.architecture, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
