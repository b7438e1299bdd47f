"""The JSON object that names a call: where it ends in a text that grows, and what it says."""

import json
import re
from typing import Any

# An object begins with a key or is empty; only then is a brace worth waiting for.
OPENING = re.compile(r'\{\s*["}]')
_OUTSIDE, _INSIDE = re.compile(r'["{}\[\]]'), re.compile(r'["\\\x00-\x1f]')
_ARGUMENTS = ("arguments", "parameters")


class ObjectEnd:
    """Finds the end of an object by its braces; each character is looked at once.

    ``end`` is the place after its last brace, ``broken`` a place where it can no longer be JSON: a text within it must
    not hold a line break.
    """

    def __init__(self, start: int) -> None:
        self.end: int | None = None
        self.broken: int | None = None
        self._at, self._depth, self._in_text = start, 0, False

    @property
    def decided(self) -> bool:
        return self.end is not None or self.broken is not None

    def look(self, text: str) -> None:
        """Go on to the end of ``text``, which begins with what was looked at before."""
        while not self.decided and (found := (_INSIDE if self._in_text else _OUTSIDE).search(text, self._at)):
            if found[0] == "\\" and found.end() == len(text):
                self._at = found.start()  # what it escapes is not there yet
                return
            self._at = found.end()
            self._take(found[0])
        self._at = len(text) if not self.decided else self._at

    def _take(self, mark: str) -> None:
        if mark == '"':
            self._in_text = not self._in_text
        elif mark == "\\":
            self._at += 1
        elif self._in_text:
            self.broken = self._at
        else:
            self._depth += 1 if mark in "{[" else -1
            self.end = self._at if self._depth == 0 else None


def read_call(text: str) -> tuple[str, str] | None:
    """Return the name and the arguments, as JSON text, of a call; None if ``text`` is no object that says both."""
    try:
        said = json.loads(text)
        if not isinstance(said, dict) or not isinstance(said.get("name"), str) or not said["name"]:
            return None
        (arguments,) = [said[key] for key in _ARGUMENTS if key in said]
        return (_sendable(said["name"]), _written(arguments)) if isinstance(arguments, dict) else None
    except (ValueError, RecursionError):
        return None


def _written(arguments: dict[str, Any]) -> str:
    return _sendable(json.dumps(arguments, ensure_ascii=False, allow_nan=False))


def _sendable(text: str) -> str:
    """Refuse half a character, which JSON can escape and UTF-8 cannot hold (UnicodeEncodeError is a ValueError)."""
    text.encode()
    return text
