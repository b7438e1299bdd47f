"""Products of some tokens, more than one warp's registers have sums for, and fewer than a tile (source/some.cuh)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from kvscape.compiler.kernels.cuda.host import Argument, Host, blocks, by_size
from kvscape.compiler.kernels.cuda.products import THREADS, Product, pointers
from kvscape.compiler.kernels.kernel import Scratch
from kvscape.quantization.layouts.fragments import chunks, group_size

MOST_TOKENS = 64
_RANGES = 8  # of columns
_STAGES = 4  # chunks of the tokens' numbers that are under way
_WARP = 32  # threads, and rows of the weight
_SMALL = 1 << 22  # numbers of a weight that may be read again for every 16 tokens
_BLOCKS = 100  # that keep most of a GPU's processors busy


@dataclass(frozen=True)
class Some:
    """``warps`` of a block, and whether it ``is_split``, so that a block has one range of the columns.

    A processor has registers for ``together`` blocks at 64 tokens.
    """

    warps: int
    is_split: bool = False
    together: int = 1

    def scratch(self, product: Product) -> tuple[Scratch, ...]:
        """Shape and dtype of the tensors that it needs besides: the ranges' sums."""
        return (((_RANGES * MOST_TOKENS * product.N,), "float32"),) if self.is_split else ()

    def launch(self, host: Host, product: Product, arguments: Sequence[Argument]) -> Any:
        """The statement for up to 64 tokens; ``arguments`` are the packed weight, x, y and n."""
        n, (name, end) = host.size("n"), product.types
        given = [*arguments, *(host.tensor("partials", ("p",), dtype) for _, dtype in self.scratch(product))]
        half, whole = (self._sums(host, product, given, tokens) for tokens in (MOST_TOKENS // 2, MOST_TOKENS))
        sums = by_size(n, [(MOST_TOKENS // 2, half)], whole)
        if not self.is_split:
            return sums
        call = f"join_partials<{name}, {end}, {product.N}, {product.K}>(partials, y, n)"
        grid = [blocks(n * (product.N // product.parts // 4), THREADS)]
        return tirx.SeqStmt([sums, host.launch(call, given[-3:], grid, THREADS)])

    def _sums(self, host: Host, product: Product, arguments: Sequence[Argument], tokens: int) -> Any:
        name, end = product.types
        rows, depth = self.warps * _WARP, 2 if product.format.bits <= 4 else 1
        sizes = f"{tokens}, {self.warps}, {depth}, {_STAGES}, {str(self.is_split).lower()}"
        types = f"{name}, {sizes}, {end}, {product.N}, {product.K}"
        partials = "partials" if self.is_split else "nullptr"
        call = f"multiply_some<{types}>({pointers(arguments[: -4 if self.is_split else -3])}, x, y, {partials}, n)"
        grid = [-(-product.N // rows), *([_ranges(product)] if self.is_split else [])]
        shared_bytes = _STAGES * tokens * 4 * group_size(product.format) * 2
        shared_bytes += 0 if self.is_split else rows * tokens * 4
        together = self.together if tokens == MOST_TOKENS else self.together + 1
        return host.launch(call, arguments, grid, self.warps * _WARP, shared_bytes, together)


def some(product: Product) -> Some | None:
    """The way for a weight; None for one so small that it may be read again for every 16 tokens."""
    if product.N * product.K <= _SMALL:
        return None
    if product.N >= 8 * _WARP * _BLOCKS:
        return Some(8)
    return Some(4, is_split=product.N < 4 * _WARP * _BLOCKS, together=2)


def _ranges(product: Product) -> int:
    """Those that have columns."""
    used = chunks(product.format, product.K)
    return -(-used // -(-used // _RANGES))
