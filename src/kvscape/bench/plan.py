"""A design point's memory before it runs: arithmetic only, nothing is allocated."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kvscape.analysis.fit import check_fit
from kvscape.analysis.memory import Memory, Workspace, predict_memory
from kvscape.analysis.terms import Term, memory_terms
from kvscape.config import DesignPoint, ModelConfig
from kvscape.errors import CapacityError


@dataclass(frozen=True)
class Plan:
    """What a point needs, what is free, and why it does not fit: ``reason`` is empty when it does."""

    point: DesignPoint
    memory: Memory
    terms: tuple[Term, ...]
    available_bytes: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {
            "parameters": self.point.flat(),
            **asdict(self.memory),
            "total_bytes": self.memory.total_bytes,
            "terms": [asdict(term) for term in self.terms],
            "available_bytes": self.available_bytes,
            "reason": self.reason,
        }


def plan_memory(
    point: DesignPoint,
    model: ModelConfig,
    weights_bytes: int,
    workspaces: Mapping[str, Workspace],
    available_bytes: int,
) -> Plan:
    """Plan a point from its artefact's manifest and its library's metadata."""
    engine = point.engine
    try:
        check_fit(model, engine, weights_bytes, workspaces, available_bytes)
        reason = ""
    except CapacityError as error:
        reason = str(error)
    return Plan(
        point,
        predict_memory(model, engine, weights_bytes, workspaces),
        memory_terms(model, engine, weights_bytes, workspaces[engine.kv_dtype]),
        available_bytes,
        reason,
    )
