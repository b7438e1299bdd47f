"""What is asked of a design point: how many requests of what length, and when they come."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvscape.config.slo import parse_slo
from kvscape.errors import ConfigError

_LEAST = (
    ("prompt_tokens", 1),
    ("max_tokens", 2),
    ("num_runs", 1),
    ("seed", 0),
    ("num_requests", 1),
    ("concurrency", 1),
)

Asked = tuple[Any, ...]
"""What points must share to compare: the values of ``ASKED``."""
ASKED = ("prompt_tokens", "max_tokens", "num_requests", "request_rate", "concurrency", "lengths", "duration_s")


@dataclass(frozen=True)
class Workload:
    """What is run: equal prompts of random tokens, ``num_runs`` times after a warm-up.

    ``num_requests`` None means one for each of the ``max_batch_size`` places. They come all together, or by chance (a
    Poisson process), ``request_rate`` of them a second; 0 stands for None. With a ``precision``, say 0.03, the workload
    is run until the medians are known to +-3 %, at most ten times as often.

    An endpoint has more: ``concurrency`` clients that ask again when they have their answer, ``duration_s`` after which
    nothing more is asked, ``lengths`` (``sharegpt`` or a file) in the place of equal ones, and an ``slo`` such as
    "ttft_s=0.5;tpot_s=0.05" that goodput is counted by.
    """

    prompt_tokens: int = 128
    max_tokens: int = 128
    num_runs: int = 3
    seed: int = 0
    precision: float | None = None
    num_requests: int | None = None
    request_rate: float | None = None
    concurrency: int | None = None
    duration_s: float | None = None
    lengths: str | None = None
    slo: str | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST:
            if (value := getattr(self, name)) is not None and value < least:
                raise ConfigError(
                    f"{name} = {getattr(self, name)}", f"it must be at least {least}", "give a larger number"
                )
        if self.precision is not None and not 0 < self.precision < 1:
            raise ConfigError(f"precision = {self.precision}", "it must lie between 0 and 1", "give for example 0.03")
        if self.request_rate is not None:
            object.__setattr__(self, "request_rate", _rate(self.request_rate))
        if self.duration_s is not None:
            if not 0 < self.duration_s < float("inf"):
                raise ConfigError(f"duration_s = {self.duration_s}", "it must be more than 0", "give seconds")
            object.__setattr__(self, "duration_s", float(self.duration_s))
        if self.slo is not None:
            parse_slo(self.slo)


def _rate(asked: float) -> float | None:
    """4 and 4.0 are one rate."""
    if not 0 <= asked < float("inf"):
        raise ConfigError(
            f"request_rate = {asked}", "it must be at least 0", "give requests a second, 0 for all at once"
        )
    return float(asked) or None


def asked_of(parameters: Mapping[str, Any]) -> Asked:
    """The workload of a point's flat parameters; those of older records have fewer."""
    return tuple(parameters.get(name) for name in ASKED)


def asked_flags(asked: Asked) -> str:
    """A workload as flags."""
    given = zip(ASKED, asked, strict=True)
    return " ".join(f"--{name.replace('_', '-')} {_shown(value)}" for name, value in given if value is not None)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"
