"""Products with packed weights, and rows of them (source/linear.cuh, rows.cuh; layouts/fragments.py)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tvm import tirx

from kvscape.compiler.kernels.cuda.host import Argument, Host, blocks, by_size
from kvscape.compiler.kernels.cuda.products import NAMES, THREADS, Many, Product, pointers
from kvscape.compiler.kernels.cuda.some import MOST_TOKENS, Some, some
from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.quantization.format import Format
from kvscape.quantization.layouts.fragments import FragmentLayout


@dataclass(frozen=True)
class Few:
    """The product for few tokens: ``chunks`` of columns that a warp has asked for, 16 ``blocks`` rows that a block has,
    and blocks that a processor has ``together``: found by trial, as few as keep the memory busy."""

    chunks: int
    blocks: int
    together: int


ROWS = 16  # of a block of the weight
MATVECS = {
    **dict.fromkeys(((bits, 1) for bits in (3, 4)), Few(chunks=2, blocks=1, together=4)),
    **dict.fromkeys(((bits, 2) for bits in (3, 4)), Few(chunks=4, blocks=2, together=2)),
    (8, 1): Few(chunks=2, blocks=1, together=3),
    (8, 2): Few(chunks=2, blocks=1, together=2),
    **dict.fromkeys(((bits, 1) for bits in (16, 32)), Few(chunks=1, blocks=1, together=3)),
    **dict.fromkeys(((bits, 2) for bits in (16, 32)), Few(chunks=1, blocks=1, together=2)),
}
"""By bits of the weights, and how many times 8 tokens there are."""
SMALL = {(3, 1): Few(chunks=4, blocks=1, together=3), (4, 1): Few(chunks=4, blocks=1, together=3)}
"""Where all blocks of a weight are there at once: then more of it can be asked for before the last kernel ends."""
AT_ONCE = 396  # three blocks for each processor of an H100


def linear(op: Operator, many: Many) -> Kernel:
    fmt, (_, N, K), (x, *arrays) = op.format, op.constants, op.tensors
    gate = op.name.removeprefix("linear").removeprefix("_")
    product, n = Product(fmt, N, K, gate), op.shape(0)[0]
    way = some(product)
    scratch = (*many.scratch(product, n), *(way.scratch(product) if way else ()))
    function = partial(linear_function, product, many, way)
    return Kernel(f"{op.name}_{fmt.name}_{N}x{K}", function, (*arrays, x), scratch=scratch)


def embedding(op: Operator) -> Kernel:
    fmt, (_, N, K), (ids, *arrays) = op.format, op.constants, op.tensors
    return Kernel(f"embedding_{fmt.name}_{N}x{K}", lambda: embedding_function(fmt, N, K), (*arrays, ids))


def linear_function(product: Product, many: Many, way: Some | None = None) -> Any:
    """Arguments: the packed weight, x f16 [n, K]; y f32 [n, N], or f16 [n, N / 2] of what the gate lets through.

    Some tokens, 17 to 64, go the ``way`` that is given, or 16 at a time. Behind y comes the scratch of ``many``, then
    that of the way.
    """
    fmt, N, K, parts = product.format, product.N, product.K, product.parts
    host = Host("_".join(["linear", *([product.gate] if product.gate else []), fmt.name, f"{N}x{K}"]))
    weight, dtype = _weight(host, fmt, N, K), "float16" if product.gate else "float32"
    arguments = [*weight, host.tensor("x", ("n", K), "float16"), host.tensor("y", ("n", N // parts), dtype)]
    arguments.append(Argument("int", "n", host.size("n")))
    n, (name, end), row_blocks = host.size("n"), product.types, N // ROWS // parts

    def matvec(tiles: int, passes: Sequence[Any] = ()) -> Any:
        few = MATVECS[fmt.bits, tiles]
        if row_blocks <= AT_ONCE:
            few = SMALL.get((fmt.bits, tiles), few)
        each = few.blocks if parts == 1 else 1
        depth, too_many = max(1, few.chunks // (each * parts)), few.chunks < each * parts
        call = f"matvec<{name}, {tiles}, {depth}, {each}, {end}, {N}, {K}>({pointers(weight)}, x, y, n)"
        grid = [-(-row_blocks // each), *passes]
        return host.launch(call, arguments, grid, THREADS, together=few.together - too_many)

    whole = many.launch(host, product, arguments)
    if way is None:
        choices = [(8, matvec(1)), (MOST_TOKENS, matvec(2, [blocks(n, 16)]))]
    else:
        choices = [(8, matvec(1)), (16, matvec(2)), (MOST_TOKENS, way.launch(host, product, arguments))]
    return host.function(tirx.IfThenElse(n > 0, by_size(n, choices, whole), None))


def embedding_function(fmt: Format, N: int, K: int) -> Any:
    """Arguments: the packed weight, token_ids int32 [n]; y f32 [n, K]."""
    host = Host(f"embedding_{fmt.name}_{N}x{K}")
    weight = _weight(host, fmt, N, K)
    arguments = [*weight, host.tensor("ids", ("n",), "int32"), host.tensor("y", ("n", K), "float32")]
    call = f"embedding<{NAMES[fmt.name]}>({pointers(weight)}, ids, y, K)"
    return host.function(host.launch(call, [*arguments, Argument("int", "K", K)], [host.size("n")], THREADS))


def _weight(host: Host, fmt: Format, N: int, K: int) -> list[Argument]:
    shapes = FragmentLayout().shapes(fmt, N, K)
    return [host.tensor(name, shape, dtype) for name, (shape, dtype) in shapes.items()]
