"""What the pool of a machine's scratch memory keeps: one piece of each size that a step ever had, which has no end."""

from collections.abc import Callable

from kvscape.analysis.memory import Workspace


class Scratch:
    """Empties the pool before it holds more than two of the largest steps so far, the coming one included.

    Pieces of equal sizes are used again: those that depend on tokens, sequences and rows, and those for tiles.
    """

    def __init__(self, workspace: Workspace, empty: Callable[[], object]) -> None:
        self._workspace, self._empty = workspace, empty
        self._kept: set[tuple[int, ...]] = set()
        self._kept_bytes = self._largest_bytes = 0

    def before(self, tokens: int, sequences: int, logit_rows: int, tiles: int) -> None:
        """A step of this size comes next."""
        step, attention = (tokens, sequences, logit_rows), (tiles,)
        if step in self._kept and attention in self._kept:
            return
        sizes = {step: self._workspace.nbytes(*step), attention: self._workspace.bytes_per_tile * tiles}
        self._largest_bytes = max(self._largest_bytes, sum(sizes.values()))
        new = {size: nbytes for size, nbytes in sizes.items() if size not in self._kept}
        if self._kept_bytes + sum(new.values()) > 2 * self._largest_bytes:
            self._empty()
            self._kept, self._kept_bytes, new = set(), 0, sizes
        self._kept |= new.keys()
        self._kept_bytes += sum(new.values())
