"""Texts as kvscape has them: the built-in one, halved into evaluation and calibration, or a file of the user's own."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

from kvscape.errors import ConfigError, near_match

HALVES = ("evaluation", "calibration")
JSON_LINES = (".jsonl", ".ndjson")
FIELD = "text"


@dataclass(frozen=True)
class Text:
    """A named text; the hash of its UTF-8 bytes stands in records and keys, since names may lie.

    ``documents`` are the parts that belong together, where it has such; ``content`` is all of them, joined.
    """

    name: str
    content: str
    documents: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of the content; where it is parts, of the parts, since they can be joined from different ones."""
        return hashlib.sha256("\0".join(self.documents or (self.content,)).encode()).hexdigest()


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


def text_from_file(path: Path, field: str | None = None) -> Text:
    """Read a UTF-8 file; of JSON lines, the string under ``field`` ("text") of each is a document.

    Raises ConfigError when it is missing, empty or something else.
    """
    content = _decoded(path)
    if path.suffix.lower() in JSON_LINES:
        return joined_text(path.stem, _field_of_lines(content, path, field or FIELD), "\n\n", path)
    if field is not None:
        raise ConfigError(f"{path} has no field {field!r}", "only JSON lines have fields", "name a .jsonl file")
    return _with_words(Text(path.stem, content), path)


def joined_text(name: str, documents: Iterable[str], between: str, where: object) -> Text:
    """Documents as one text; raise ConfigError when ``where`` holds none."""
    parts = tuple(documents)
    return _with_words(Text(name, between.join(parts), parts), where)


def _with_words(text: Text, where: object) -> Text:
    if not text.content.strip():
        raise ConfigError(f"{where} is empty", "it holds no words", "give a text of at least one window")
    return text


def _decoded(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}", error.strerror or str(error), "give a text file") from None
    except UnicodeDecodeError as error:
        why = f"byte {error.start} is not UTF-8"
        raise ConfigError(f"{path} is not a text", why, "save it as UTF-8") from None


def _field_of_lines(content: str, path: Path, field: str) -> list[str]:
    lines = enumerate(content.split("\n"), 1)
    return [_field(line, f"line {number} of {path}", field) for number, line in lines if line.strip()]


def _field(line: str, where: str, field: str) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not JSON", str(error), "correct it or remove it") from None
    if not isinstance(record, dict) or field not in record:
        known = [str(name) for name in record] if isinstance(record, dict) else []
        do = near_match(field, known) if known else "give JSON objects with a field of text"
        raise ConfigError(f"{where} has no field {field!r}", "", do)
    value = record[field]
    if not isinstance(value, str):
        raise ConfigError(f"{field!r} in {where} is no string", f"it is {json.dumps(value)[:40]}", "name another field")
    return value
