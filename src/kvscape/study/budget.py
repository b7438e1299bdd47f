"""What a user can afford, as they write it: "2 GiB", "30", "2%"."""

import re
from dataclasses import dataclass

from kvscape.config import Asked, parse_share
from kvscape.errors import ConfigError, near_match

OBJECTIVES = ("decode", "prefill", "ttft", "memory", "quality")

_UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z%]*)\s*")


@dataclass(frozen=True)
class Budget:
    """Limits a design point must keep; None sets no limit.

    Context and concurrency are what must be served, not costs. ``min_decode_tokens_per_s`` is what one stream gets
    (1 / TPOT). ``max_perplexity_ratio`` 1.02 allows 2 % more than ``baseline``, a quantization's name, or than the best
    known where it is None. ``objective`` is what the best point is best in; ``workload`` is what a point is asked for.
    """

    max_total_bytes: int | None = None
    min_decode_tokens_per_s: float | None = None
    max_perplexity_ratio: float | None = None
    baseline: str | None = None
    min_context: int | None = None
    concurrency: int | None = None
    max_ttft_s: float | None = None
    objective: str = "decode"
    workload: Asked | None = None

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ConfigError(f"unknown objective {self.objective!r}", "", near_match(self.objective, OBJECTIVES))
        for name in ("min_context", "concurrency", "max_ttft_s", "min_decode_tokens_per_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} = {value}", "it must be more than 0", "give a positive number")


def parse_bytes(text: str) -> int:
    """Bytes of "2 GiB", "500 MB" or "1000000"; raise ConfigError for anything else."""
    number, unit = _split(text, "a size", "write for example 2GiB or 500MB")
    if (unit or "B").upper() not in _UNITS:
        raise ConfigError(f"unknown unit {unit!r} in {text!r}", "", near_match(unit, _SPELLED))
    return round(number * _UNITS[(unit or "B").upper()])


def parse_increase(text: str) -> float:
    """The ratio 1.02 of "2%" or "0.02"; raise ConfigError for anything else."""
    return 1 + parse_share(text)


_SPELLED = tuple(name.replace("IB", "iB") for name in _UNITS)


def _split(text: str, what: str, do: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is not {what}", "it is no number with a unit", do)
    return float(match[1]), match[2]
