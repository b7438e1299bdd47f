"""A look at a repository before its weights are downloaded."""

from collections.abc import Callable
from pathlib import Path

Check = Callable[[Path], None]
"""Given the folder of a repository's texts, or a file with the beginning of a .gguf file.

Raises a KvscapeError for a model that cannot run.
"""


def unchecked(folder: Path) -> None:
    """Take any model."""
