"""Where the time of one step goes: what ``kvscape profile`` measures and a report draws."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class KernelTime:
    """All calls of one kernel in one step; ``roofline_s`` is the least that its bytes and operations take."""

    name: str
    calls: int
    time_s: float
    moved_bytes: float
    operations: float
    roofline_s: float

    def __add__(self, other: "KernelTime") -> "KernelTime":
        return KernelTime(
            self.name,
            self.calls + other.calls,
            self.time_s + other.time_s,
            self.moved_bytes + other.moved_bytes,
            self.operations + other.operations,
            self.roofline_s + other.roofline_s,
        )

    @property
    def of_roofline(self) -> float:
        """Share of the machine's limit that is reached; above 1 where its data lie in a cache."""
        return self.roofline_s / self.time_s if self.time_s else 0.0


@dataclass(frozen=True)
class StepProfile:
    """One step of ``tokens`` tokens; what its kernels do not explain is the host's."""

    step: str
    tokens: int
    wall_s: float
    kernels: tuple[KernelTime, ...]

    @property
    def kernels_s(self) -> float:
        return sum(kernel.time_s for kernel in self.kernels)

    @property
    def host_s(self) -> float:
        return max(0.0, self.wall_s - self.kernels_s)

    def to_json(self) -> dict[str, Any]:
        rows = [{**asdict(kernel), "of_roofline": kernel.of_roofline} for kernel in self.kernels]
        return {"step": self.step, "tokens": self.tokens, "wall_s": self.wall_s, "host_s": self.host_s, "kernels": rows}


@dataclass(frozen=True)
class Profile:
    """A prefill and a decode step of one design point, on a machine of measured rates."""

    parameters: Mapping[str, Any]
    environment: Mapping[str, Any]
    steps: tuple[StepProfile, ...]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "steps": [step.to_json() for step in self.steps]}
