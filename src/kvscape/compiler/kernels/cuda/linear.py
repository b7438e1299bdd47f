"""Products with packed weights, and rows of them (source/linear.cuh, rows.cuh; layouts/fragments.py)."""

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from kvscape.compiler.kernels.cuda.host import Argument, Host, blocks, by_size
from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.quantization.format import Format
from kvscape.quantization.layouts.fragments import FragmentLayout, group_size


@dataclass(frozen=True)
class Few:
    """The product for few tokens: ``chunks`` of columns that a warp has asked for, 16 ``blocks`` rows that a block has,
    and blocks that a processor has ``together``: found by trial, as few as keep the memory busy."""

    chunks: int
    blocks: int
    together: int


# The C++ name of each format: f32 weights and scales are packed as f16 ones.
NAMES = {
    "f32": "F16",
    "f16": "F16",
    "q8f32_1": "Q8",
    "q8f16_1": "Q8",
    "q4f32_1": "Q4",
    "q4f16_1": "Q4",
    "q4af16_1": "Q4A",
    "q3f16_1": "Q3",
}
GATES = {"swiglu": "Silu", "geglu": "Gelu"}
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
TILE = 128  # rows and tokens of a block of the product for many tokens
THREADS = 256


def linear(op: Operator) -> Kernel:
    fmt, (_, N, K), (x, *arrays) = op.format, op.constants, op.tensors
    return Kernel(f"linear_{fmt.name}_{N}x{K}", lambda: linear_function(fmt, N, K), (*arrays, x))


def linear_gated(op: Operator) -> Kernel:
    fmt, (_, N, K), (x, *arrays), gate = op.format, op.constants, op.tensors, op.name.removeprefix("linear_")
    return Kernel(f"{op.name}_{fmt.name}_{N}x{K}", lambda: linear_function(fmt, N, K, gate), (*arrays, x))


def embedding(op: Operator) -> Kernel:
    fmt, (_, N, K), (ids, *arrays) = op.format, op.constants, op.tensors
    return Kernel(f"embedding_{fmt.name}_{N}x{K}", lambda: embedding_function(fmt, N, K), (*arrays, ids))


def linear_function(fmt: Format, N: int, K: int, gate: str = "") -> Any:
    """Arguments: the packed weight, x f16 [n, K]; y f32 [n, N], or f16 [n, N / 2] of what the ``gate`` lets through."""
    parts, dtype, end = (2, "float16", f"Gating<{GATES[gate]}>") if gate else (1, "float32", "Plain")
    host = Host("_".join(["linear", *([gate] if gate else []), fmt.name, f"{N}x{K}"]))
    weight = _weight(host, fmt, N, K)
    arguments = [*weight, host.tensor("x", ("n", K), "float16"), host.tensor("y", ("n", N // parts), dtype)]
    arguments.append(Argument("int", "n", host.size("n")))
    n, name, row_blocks = host.size("n"), NAMES[fmt.name], N // ROWS // parts
    pointers = f"(const uint4*)codes, (const u32*){weight[-1].name}, x, y, n"

    def matvec(tiles: int) -> Any:
        few = MATVECS[fmt.bits, tiles]
        if row_blocks <= AT_ONCE:
            few = SMALL.get((fmt.bits, tiles), few)
        each = few.blocks if parts == 1 else 1
        depth, too_many = max(1, few.chunks // (each * parts)), few.chunks < each * parts
        call = f"matvec<{name}, {tiles}, {depth}, {each}, {end}, {N}, {K}>({pointers})"
        return host.launch(call, arguments, [-(-row_blocks // each)], THREADS, together=few.together - too_many)

    grid = [-(-N // TILE), blocks(n, TILE)]
    shared_bytes = 2 * TILE * 4 * group_size(fmt) * 2
    many = host.launch(f"matmul<{name}, {end}, {N}, {K}>({pointers})", arguments, grid, THREADS, shared_bytes)
    some = by_size(n, [(8, matvec(1)), (16, matvec(2))], many)
    return host.function(tirx.IfThenElse(n > 0, some, None))


def embedding_function(fmt: Format, N: int, K: int) -> Any:
    """Arguments: the packed weight, token_ids int32 [n]; y f32 [n, K]."""
    host = Host(f"embedding_{fmt.name}_{N}x{K}")
    weight = _weight(host, fmt, N, K)
    arguments = [*weight, host.tensor("ids", ("n",), "int32"), host.tensor("y", ("n", K), "float32")]
    call = f"embedding<{NAMES[fmt.name]}>((const uint4*)codes, (const u32*){weight[-1].name}, ids, y, K)"
    return host.function(host.launch(call, [*arguments, Argument("int", "K", K)], [host.size("n")], THREADS))


def _weight(host: Host, fmt: Format, N: int, K: int) -> list[Argument]:
    shapes = FragmentLayout().shapes(fmt, N, K)
    return [host.tensor(name, shape, dtype) for name, (shape, dtype) in shapes.items()]
