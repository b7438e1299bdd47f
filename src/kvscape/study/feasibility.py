"""Points that cannot run are known before they do."""

from collections.abc import Callable, Iterable
from functools import cache

from kvscape.analysis.fit import check_fit
from kvscape.analysis.memory import Memory
from kvscape.bench.measure import point_reason
from kvscape.config import DesignPoint
from kvscape.errors import CapacityError, ConfigError
from kvscape.study.builds import Builds
from kvscape.study.executor import Failed
from kvscape.study.model_facts import ModelFacts
from kvscape.subjects import find_local

UNLIMITED_BYTES = 1 << 62


def refusals(
    points: Iterable[DesignPoint], builds: Builds, available_bytes: Callable[[str], int]
) -> dict[DesignPoint, Failed]:
    """The points that cannot run, each with the reason: its build failed, or it cannot fit into its device."""
    refused, free = {}, cache(available_bytes)
    for point in points:
        facts = builds[point]
        if isinstance(facts, Failed):
            refused[point] = facts
        elif facts is not None and (reason := infeasible_reason(point, facts, free(point.build.device))):
            refused[point] = Failed("infeasible", reason)
    return refused


def predicted_memory(point: DesignPoint, facts: ModelFacts) -> Memory:
    """What a point needs, as its subject's arithmetic has it."""
    engine = point.engine.fitted(facts.model)
    return find_local(point.subject).predict(facts.model, engine, facts.weights_bytes, facts.workspaces)


def infeasible_reason(point: DesignPoint, facts: ModelFacts, available_bytes: int) -> str:
    """Why a point cannot run; empty when it can."""
    try:
        engine = point.engine.fitted(facts.model)
    except ConfigError as error:
        return str(error)
    if reason := point_reason(point):
        return reason
    if engine.kv_dtype not in facts.workspaces:
        return f"the compiled library has no KV precision {engine.kv_dtype}"
    if point.subject != DesignPoint().subject:
        return _peers_reason(point, facts, available_bytes)
    try:
        check_fit(facts.model, engine, facts.weights_bytes, facts.workspaces, available_bytes)
    except CapacityError as error:
        return str(error)
    return ""


def _peers_reason(point: DesignPoint, facts: ModelFacts, available_bytes: int) -> str:
    """Another subject has its own arithmetic, and no advice."""
    needed = predicted_memory(point, facts).total_bytes
    if needed <= available_bytes:
        return ""
    return f"{point.subject} needs {needed / 2**20:.1f} MiB, {available_bytes / 2**20:.1f} MiB are free"
