"""Products with packed weights, and rows of them."""

from collections.abc import Callable
from typing import Any

from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.kernels.webgpu.host import Binding, Host, Tensor, blocks, by_size, in_order
from kvscape.compiler.kernels.webgpu.weights import (
    TILE,
    TILES,
    Part,
    embedding_text,
    matmul_text,
    matvec_text,
    parts,
)
from kvscape.quantization.format import Format
from kvscape.quantization.layouts.words import ROWS, WordLayout


def linear(op: Operator) -> Kernel:
    fmt, (_, N, K), (x, *arrays) = op.format, op.constants, op.tensors
    return Kernel(f"linear_{fmt.name}_{N}x{K}", lambda: linear_function(fmt, N, K), (*arrays, x))


def embedding(op: Operator) -> Kernel:
    fmt, (_, N, K), (ids, *arrays) = op.format, op.constants, op.tensors
    return Kernel(f"embedding_{fmt.name}_{N}x{K}", lambda: embedding_function(fmt, N, K), (*arrays, ids))


def linear_function(fmt: Format, N: int, K: int) -> Any:
    """Arguments: the packed weight, x f32 [n, K]; y f32 [n, N]."""
    host = Host(f"linear_{fmt.name}_{N}x{K}")
    weight = _weight(host, fmt, N, K)
    x, y, n = host.tensor("x", ("n", K), "float32"), host.tensor("y", ("n", N), "float32"), host.size("n")

    def bindings(part: Part) -> list[Binding]:
        return [*_bound(weight, fmt, part, "vec4<u32>"), x.read("vec4<f32>"), y.write("f32")]

    def matvec(tokens: int) -> Callable[[Part], Any]:
        def launch(part: Part) -> Any:
            grid = [part.blocks, blocks(n, tokens)]
            return host.launch(matvec_text(fmt, N, K, part, tokens), bindings(part), [("n", n)], grid)

        return launch

    def matmul(row_tiles: int, token_tiles: int) -> Callable[[Part], Any]:
        def launch(part: Part) -> Any:
            grid = [blocks(part.blocks * ROWS, TILE * row_tiles), blocks(n, TILE * token_tiles)]
            source = matmul_text(fmt, N, K, part, row_tiles, token_tiles)
            return host.launch(source, bindings(part), [("n", n)], grid)

        return launch

    def all_parts(launch: Callable[[Part], Any]) -> Any:
        return in_order([launch(part) for part in parts(fmt, N, K)])

    few = [(limit, all_parts(matvec(tokens))) for limit, tokens in ((1, 1), (4, 4), (16, 8))]
    some, many = all_parts(matmul(1, 1)), all_parts(matmul(*TILES))
    return host.function(by_size(n, [*few, (TILE, some)], many))


def embedding_function(fmt: Format, N: int, K: int) -> Any:
    """Arguments: the packed weight, token_ids int32 [n]; y f32 [n, K]."""
    host = Host(f"embedding_{fmt.name}_{N}x{K}")
    weight = _weight(host, fmt, N, K)
    ids, y = host.tensor("ids", ("n",), "int32").read("i32"), host.tensor("y", ("n", K), "float32").write("f32")
    launches = [
        host.launch(
            embedding_text(fmt, N, K, part),
            [*_bound(weight, fmt, part, "u32"), ids, y],
            [],
            [host.size("n")],
        )
        for part in parts(fmt, N, K)
    ]
    return host.function(in_order(launches))


def _weight(host: Host, fmt: Format, N: int, K: int) -> list[Tensor]:
    return [host.tensor(name, shape, dtype) for name, (shape, dtype) in WordLayout().shapes(fmt, N, K).items()]


def _bound(weight: list[Tensor], fmt: Format, part: Part, element: str) -> list[Any]:
    """The part's codes and scales."""
    elements = [element, "u32" if fmt.scale_dtype == "float16" else "f32"]
    if part.first:
        weight = [each.skipping(each.nbytes // part.of * part.first) for each in weight]
    return [each.read(name) for each, name in zip(weight, elements, strict=False)]
