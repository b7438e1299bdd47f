"""Metadata of one architecture, each value checked for its kind."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kvscape.errors import WeightsError

# Beyond these f32 has no number.
_LEAST, _MOST = 1e-38, 3e38


class Keys:
    """Typed access to the keys that begin with the architecture's name."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str) -> None:
        self.metadata, self.architecture = metadata, architecture

    def find(self, name: str) -> Any:
        return self.metadata.get(f"{self.architecture}.{name}")

    def whole(self, name: str, default: int | None = None) -> int:
        value = self._required(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(name, f"is {value!r}, not a positive whole number")
        return value

    def real(self, name: str, default: float | None = None) -> float:
        value = self._required(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not _LEAST < value < _MOST:
            raise self.wrong(name, f"is {value!r}, not a positive number")
        # GGUF holds f32; the shortest decimal that is the same f32 is what the model's author wrote (1e-05).
        return float(str(np.float32(value)))

    def optional_whole(self, name: str) -> int | None:
        """None where the key is missing or 0, which means the same."""
        return self.whole(name) if self.find(name) not in (None, 0) else None

    def optional_real(self, name: str) -> float | None:
        return self.real(name) if self.find(name) not in (None, 0) else None

    def wrong(self, name: str, why: str) -> WeightsError:
        return WeightsError(f"metadata {self.architecture}.{name}", why, "use another file of this model")

    def _required(self, name: str, default: float | None) -> Any:
        value = self.find(name)
        if value is None and default is None:
            raise self.wrong(name, "is missing")
        return default if value is None else value
