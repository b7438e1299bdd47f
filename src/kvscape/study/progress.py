"""What a study tells while it runs."""

from collections.abc import Sequence
from typing import Protocol

from kvscape.results import Record

LOST = "lost"
"""Of work that a node took with it: another one does it."""


class StudyProgress(Protocol):
    """Told what begins and what ends."""

    def start(self, total: int) -> None:
        """So many pieces of work are to be done in all, those that are done included."""
        ...

    def prune(self, points: int) -> None:
        """So many points cannot run; their records say why."""
        ...

    def begin(self, label: str) -> None:
        """Said again of one of several that run at once, it is the one that ends next."""
        ...

    def wait(self) -> None:
        """What began waits for its turn."""
        ...

    def end(self, status: str, reason: str) -> None:
        """What began last has ended; LOST is what begins anew on another node."""
        ...

    def show(self, front: Sequence[Record]) -> None:
        """The points that nothing measured so far beats."""
        ...
