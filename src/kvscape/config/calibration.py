"""What weights were calibrated on, and how."""

from dataclasses import dataclass

SELF = "self"
"""Text that the model writes itself."""
BUILT_IN = "builtin"
"""The calibration half of the built-in text."""


@dataclass(frozen=True)
class Calibration:
    """``text`` is SELF, BUILT_IN or a file's name; of its tokens ``tokens`` were used, in windows of ``window``."""

    text: str
    text_sha256: str
    tokens: int
    window: int
    method: str = "gptq"
    damping: float = 0.01
    seed: int = 0
