"""What a compiled library says of itself, so that ``--model-lib FILE`` works alone."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from kvscape.analysis.memory import Workspace
from kvscape.config import ModelConfig


@dataclass(frozen=True)
class LibraryMetadata:
    """Kernels, formats and memory plan of one library; kept inside it as a JSON string."""

    key: str
    target: str
    layout: str
    activation: str
    model: ModelConfig
    tensor_formats: dict[str, str]
    param_names: tuple[str, ...]
    kv_dtypes: tuple[str, ...]
    query_tile_tokens: int
    key_range_tokens: int
    page_size_multiple: int
    kernels: tuple[str, ...]
    workspaces: dict[str, Workspace]
    kvscape_version: str
    tvm_version: str
    overrides: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "LibraryMetadata":
        raw: dict[str, Any] = json.loads(text)
        return cls(
            **{
                **raw,
                "model": ModelConfig.from_json(raw["model"]),
                "param_names": tuple(raw["param_names"]),
                "kv_dtypes": tuple(raw["kv_dtypes"]),
                "kernels": tuple(raw["kernels"]),
                "workspaces": {name: Workspace(**formula) for name, formula in raw["workspaces"].items()},
            }
        )
