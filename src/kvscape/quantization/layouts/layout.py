"""What a layout is: the order in which a target's kernels read a matrix."""

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from kvscape.quantization.arrays import Array
from kvscape.quantization.format import Format

Shape: TypeAlias = tuple[tuple[int, ...], str]


class Layout(Protocol):
    """A name, and how many rows lie together: whatever is packed is a whole number of them."""

    @property
    def name(self) -> str: ...

    @property
    def rows(self) -> int: ...

    def shapes(self, fmt: Format, N: int, K: int) -> dict[str, Shape]:
        """Shape and dtype of each packed array of an [N, K] weight; UnsupportedModelError if it cannot be packed."""

    def pack(self, arrays: Mapping[str, Array], fmt: Format) -> dict[str, Array]:
        """Reorder canonical arrays (``weight``, or ``q_weight`` with ``q_scale`` and ``q_min``)."""
