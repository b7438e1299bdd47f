"""Whether what is known of a model fits, judged before a device takes memory for it."""

from collections.abc import Callable
from typing import TypeAlias

from kvscape.artifact import LibraryMetadata

Check: TypeAlias = Callable[[LibraryMetadata, int, int], None]
"""Given what a library says of itself, the bytes of its weights and those that are free; raises CapacityError."""


def unchecked(metadata: LibraryMetadata, weights_bytes: int, available_bytes: int) -> None:
    """For those that know what they ask for."""
