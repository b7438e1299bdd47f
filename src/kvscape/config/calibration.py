"""What weights were calibrated on, and how."""

from dataclasses import dataclass

SELF = "self"
"""Text that the model writes itself."""
BUILT_IN = "builtin"
"""The calibration half of the built-in text."""


@dataclass(frozen=True)
class CalibrationMethod:
    """GPTQ over ``windows`` of ``window`` tokens at most; ``corrected`` is the share of its inputs' own error that a
    product makes good. ``seed`` is that of the text that a model writes itself."""

    method: str = "gptq"
    windows: int = 64
    window: int = 512
    damping: float = 0.01
    corrected: float = 0.5
    seed: int = 0

    def key(self, text: str) -> str:
        """All that decides the codes of given weights: SELF, or the sha256 of a text, and the method."""
        return f"{text} {self}"


CALIBRATION_METHOD = CalibrationMethod()


@dataclass(frozen=True)
class Calibration:
    """``text`` is SELF, BUILT_IN or a file's name; ``tokens`` of it were used."""

    text: str
    text_sha256: str
    tokens: int
    method: CalibrationMethod = CALIBRATION_METHOD

    @property
    def key(self) -> str:
        return self.method.key(SELF if self.text == SELF else self.text_sha256)
