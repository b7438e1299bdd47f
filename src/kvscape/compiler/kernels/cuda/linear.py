"""Products with packed weights, and rows of them (source/linear.cuh, rows.cuh; layouts/fragments.py)."""

from typing import Any

from tvm import tirx

from kvscape.compiler.kernels.cuda.host import Argument, Host, blocks, by_size
from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.quantization.format import Format
from kvscape.quantization.layouts.fragments import FragmentLayout, group_size

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
TILE = 128  # rows and tokens of a block of the product for many tokens
THREADS = 256


def linear(op: Operator) -> Kernel:
    fmt, (_, N, K), (x, *arrays) = op.format, op.constants, op.tensors
    return Kernel(f"linear_{fmt.name}_{N}x{K}", lambda: linear_function(fmt, N, K), (*arrays, x))


def embedding(op: Operator) -> Kernel:
    fmt, (_, N, K), (ids, *arrays) = op.format, op.constants, op.tensors
    return Kernel(f"embedding_{fmt.name}_{N}x{K}", lambda: embedding_function(fmt, N, K), (*arrays, ids))


def linear_function(fmt: Format, N: int, K: int) -> Any:
    """Arguments: the packed weight, x f16 [n, K]; y f32 [n, N]."""
    host = Host(f"linear_{fmt.name}_{N}x{K}")
    weight = _weight(host, fmt, N, K)
    arguments = [*weight, host.tensor("x", ("n", K), "float16"), host.tensor("y", ("n", N), "float32")]
    n, row_blocks, name = host.size("n"), N // 16, NAMES[fmt.name]
    arguments += [Argument("int", "n", n), Argument("int", "N", N), Argument("int", "K", K)]
    pointers = f"(const uint4*)codes, (const u32*){weight[-1].name}"

    def matvec(tiles: int) -> Any:
        return host.launch(f"matvec<{name}, {tiles}, 1>({pointers}, x, y, n, N, K)", arguments, [row_blocks], THREADS)

    grid = [-(-N // TILE), blocks(n, TILE)]
    shared_bytes = 2 * TILE * 4 * group_size(fmt) * 2
    many = host.launch(f"matmul<{name}>({pointers}, x, y, n, N, K)", arguments, grid, THREADS, shared_bytes)
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
