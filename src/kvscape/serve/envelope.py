"""What every answer, and every chunk of one, has around its choices."""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvscape.serve.protocol.usage import Usage
from kvscape.version import __version__

FINGERPRINT = f"kvscape-{__version__}"


def new_id(prefix: str) -> str:
    """An id that no other request has."""
    return f"{prefix}-{secrets.token_hex(16)}"


@dataclass(frozen=True)
class Envelope:
    """``usage_in_chunks`` puts the field into all chunks: null in all but the last one."""

    id: str
    model: str
    usage_in_chunks: bool = False
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def head(self) -> dict[str, Any]:
        return {"id": self.id, "created": self.created, "model": self.model, "system_fingerprint": FINGERPRINT}

    def chunk(self, kind: str, choices: Sequence[Mapping[str, Any]], usage: Usage | None = None) -> dict[str, Any]:
        """One object of a stream."""
        made = {**self.head, "object": kind, "choices": choices}
        if self.usage_in_chunks:
            made["usage"] = usage.model_dump() if usage else None
        return made
