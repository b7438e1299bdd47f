"""Products of many tokens: by warps on any GPU, by warpgroups on an H100 (source/products.cuh, warpgroups.cuh)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tvm import tirx

from kvscape.compiler.kernels.cuda.host import Argument, Host, blocks
from kvscape.compiler.kernels.cuda.rows import GATES
from kvscape.compiler.kernels.kernel import Scratch
from kvscape.quantization.format import Format
from kvscape.quantization.layouts.fragments import chunks, group_size

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
TILE = 128  # rows and tokens
THREADS = 256
H100_PROCESSORS = 132
_SHARED_BYTES = 232_448  # that a block may have
_MOST_STAGES, _WARPGROUPS_THREADS, _BARRIERS_BYTES = 6, 384, 16
_WIDE_BITS = 4  # of weights for whose wide tiles there are registers
_NARROW_TIME, _WIDE_TIME = 8, 15  # of a tile, one to the other


@dataclass(frozen=True)
class Product:
    """x W^T of a packed W [N, K]; with a gate the first half of W's rows are gates of the second."""

    format: Format
    N: int
    K: int
    gate: str = ""

    @property
    def parts(self) -> int:
        return 2 if self.gate else 1

    @property
    def types(self) -> tuple[str, str]:
        """The C++ names of the weights' format, and of what becomes of sums."""
        return NAMES[self.format.name], f"Gating<{GATES[self.gate]}>" if self.gate else "Plain"


class Many(Protocol):
    """How an architecture multiplies many tokens."""

    def scratch(self, product: Product, n: Any) -> tuple[Scratch, ...]:
        """Shape and dtype of the tensors that ``n`` tokens need besides."""

    def launch(self, host: Host, product: Product, arguments: Sequence[Argument]) -> Any:
        """The statement; ``arguments`` are the packed weight, x, y and n."""


class Warps:
    """Each warp reads its weights, and multiplies: what every GPU has."""

    def scratch(self, product: Product, n: Any) -> tuple[Scratch, ...]:
        return ()

    def launch(self, host: Host, product: Product, arguments: Sequence[Argument]) -> Any:
        name, end = product.types
        grid = [-(-product.N // TILE), blocks(host.size("n"), TILE)]
        shared_bytes = 2 * _stage_bytes(product)
        call = f"multiply<{name}, {end}, {product.N}, {product.K}>({pointers(arguments[:-3])}, x, y, n)"
        return host.launch(call, arguments, grid, THREADS, shared_bytes)


@dataclass(frozen=True)
class Warpgroups:
    """One warpgroup of a block loads tokens, which lie in order in scratch memory, and two multiply.

    There is a block for each of the ``processors`` at most.
    """

    processors: int = H100_PROCESSORS

    def scratch(self, product: Product, n: Any) -> tuple[Scratch, ...]:
        """Whole tiles and chunks, or a little more: memory plans are linear in tokens."""
        columns = chunks(product.format, product.K) * 4 * group_size(product.format)
        return ((((n + (TILE - 1)) * columns,), "float16"),)

    def launch(self, host: Host, product: Product, arguments: Sequence[Argument]) -> Any:
        arranged, (*weight, x, y, n) = host.tensor("arranged", ("m",), "float16"), arguments
        name, _ = product.types
        grid = [chunks(product.format, product.K), blocks(host.size("n"), TILE)]
        call = f"arrange<{name}, {product.K}>(x, (uint4*)arranged, n)"
        arrange = host.launch(call, [x, arranged, n], grid, THREADS)
        given = [*weight, arranged, y, n]
        multiply = self._multiply(host, product, given, "narrow", 1)
        if product.format.bits <= _WIDE_BITS:
            wide = self._multiply(host, product, given, "wide", 2)
            multiply = tirx.IfThenElse(self._wide_is_faster(host, product), wide, multiply)
        return tirx.SeqStmt([arrange, multiply])

    def _multiply(self, host: Host, product: Product, arguments: Sequence[Argument], kind: str, rows: int) -> Any:
        stage_bytes = _stage_bytes(product) + _BARRIERS_BYTES
        sums_bytes = rows * TILE * TILE * 4 if rows > 1 else 0
        stages = min(_MOST_STAGES, (_SHARED_BYTES - sums_bytes) // stage_bytes)
        types = ", ".join([*product.types, str(product.N), str(product.K), str(stages)])
        call = f"multiply_{kind}<{types}>({pointers(arguments[:-3])}, (const uint4*)arranged, y, n)"
        grid = [tirx.min(self._tiles(host, product, rows), self.processors)]
        return host.launch(call, arguments, grid, _WARPGROUPS_THREADS, stages * stage_bytes + sums_bytes)

    def _tiles(self, host: Host, product: Product, rows: int) -> Any:
        return blocks(host.size("n"), TILE) * -(-product.N // (rows * TILE))

    def _wide_is_faster(self, host: Host, product: Product) -> Any:
        """All processors wait for the last tile: a few wide tiles may take longer than many narrow ones."""
        narrow, wide = (blocks(self._tiles(host, product, rows), self.processors) for rows in (1, 2))
        return wide * _WIDE_TIME <= narrow * _NARROW_TIME


def many(architecture: str, processors: int = H100_PROCESSORS) -> Many:
    """By warpgroups on ``sm_90`` alone: no other architecture has the same ones."""
    return Warpgroups(processors) if architecture == "sm_90" else Warps()


def pointers(weight: Sequence[Argument]) -> str:
    """C++: codes and constants of a packed weight; f16 numbers have none, and stand for them."""
    return f"(const uint4*){weight[0].name}, (const u32*){weight[-1].name}"


def _stage_bytes(product: Product) -> int:
    """Of a chunk of a tile's tokens."""
    return TILE * 4 * group_size(product.format) * 2
