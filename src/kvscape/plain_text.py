"""Texts as kvscape has them: the built-in one, halved into evaluation and calibration, or a file of the user's own."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

from kvscape.errors import ConfigError, near_match

HALVES = ("evaluation", "calibration")


@dataclass(frozen=True)
class Text:
    """A named text; the hash of its UTF-8 bytes stands in records and keys, since names may lie."""

    name: str
    content: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content.encode()).hexdigest()


def built_in_text(half: str = "evaluation") -> Text:
    """The standard library's documentation topics that fall into ``half`` by a hash of their name.

    No topic is in both halves, so text that a model was calibrated on is never text it is scored on. The content
    follows the Python version; its hash says which one it is.
    """
    if half not in HALVES:
        raise ConfigError(f"unknown half {half!r} of the built-in text", "", near_match(half, HALVES))
    return Text(f"builtin-{half}", _join(topics, half))


def _join(documents: Mapping[str, str], half: str) -> str:
    return "\n\n".join(documents[name] for name in sorted(documents) if _half(name) == half)


def _half(name: str) -> str:
    return HALVES[hashlib.sha256(name.encode()).digest()[0] % 2]


def text_from_file(path: Path) -> Text:
    """Read a UTF-8 file; raise ConfigError when it is missing, empty or something else."""
    try:
        content = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}", error.strerror or str(error), "give a text file") from None
    except UnicodeDecodeError as error:
        why = f"byte {error.start} is not UTF-8"
        raise ConfigError(f"{path} is not a text", why, "save it as UTF-8") from None
    if not content.strip():
        raise ConfigError(f"{path} is empty", "it holds no words", "give a text of at least one window")
    return Text(path.stem, content)
