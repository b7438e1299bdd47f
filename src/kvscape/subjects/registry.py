"""Subjects by name. Adding one is a file and a line here."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

from kvscape.config import DesignPoint
from kvscape.errors import ConfigError, near_match
from kvscape.subjects.kvscape_subject import load_kvscape
from kvscape.subjects.subject import Subject
from kvscape.version import __version__

Load = Callable[[DesignPoint, str, Path | None], Subject]


@dataclass(frozen=True)
class Entry:
    """How a subject is loaded, and the version that its speed belongs to."""

    load: Load
    version: str


SUBJECTS: Mapping[str, Entry] = {"kvscape": Entry(load_kvscape, __version__)}


def find_subject(name: str) -> Entry:
    """Raise ConfigError with the near match of an unknown name."""
    if name not in SUBJECTS:
        raise ConfigError(f"unknown subject {name!r}", "", near_match(name, SUBJECTS))
    return SUBJECTS[name]


def loaded_subject(
    point: DesignPoint, jit: str = "on", model_lib: Path | None = None
) -> AbstractContextManager[Subject]:
    """Load a design point; the subject is closed at the end of the ``with`` block."""
    return closing(find_subject(point.subject).load(point, jit, model_lib))
