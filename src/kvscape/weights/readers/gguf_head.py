"""The first bytes of a GGUF file: which architecture it is of, before the rest is downloaded."""

from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.weights.readers.cursor import Cursor
from kvscape.weights.readers.gguf_config import ARCHITECTURES
from kvscape.weights.readers.gguf_header import metadata_value

_KEY = "general.architecture"


def check_head(head: bytes, where: str) -> None:
    """Raise UnsupportedModelError if ``head`` names an architecture that no reader knows.

    What is cut off or damaged is left for the reader of the whole file to say.
    """
    try:
        architecture = _architecture(Cursor(head, where))
    except WeightsError:
        return
    if architecture is not None and architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UnsupportedModelError(f"architecture {architecture!r} is not supported", "", f"supported are {known}")


def _architecture(cursor: Cursor) -> str | None:
    cursor.take(16)  # magic, version, number of tensors
    for _ in range(cursor.scalar("Q")):
        key, value = cursor.string(), metadata_value(cursor, cursor.scalar("I"))
        if key == _KEY:
            return value if isinstance(value, str) else None
    return None
