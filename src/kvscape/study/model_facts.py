"""What a study must know of a built model before it measures anything."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kvscape.analysis.memory import Workspace
from kvscape.config import ModelConfig


@dataclass(frozen=True)
class ModelFacts:
    """Shape, size and identity of one build, as ``kvscape compile --json`` prints them."""

    model: ModelConfig
    weights_bytes: int
    weights_key: str
    library_key: str
    workspaces: Mapping[str, Workspace]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "ModelFacts":
        """Read the object that ``compile`` prints; other keys are left alone."""
        return cls(
            model=ModelConfig.from_json(raw["model"]),
            weights_bytes=raw["weights_bytes"],
            weights_key=raw["weights_key"],
            library_key=raw["library_key"],
            workspaces={name: Workspace(**formula) for name, formula in raw["workspaces"].items()},
        )
