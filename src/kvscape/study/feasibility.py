"""Points that cannot run are known before they do."""

from kvscape.analysis.fit import check_fit
from kvscape.bench.measure import point_reason
from kvscape.config import DesignPoint, EngineConfig
from kvscape.errors import CapacityError, ConfigError
from kvscape.study.model_facts import ModelFacts
from kvscape.subjects import find_subject


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
        return _peers_reason(point, engine, facts, available_bytes)
    try:
        check_fit(facts.model, engine, facts.weights_bytes, facts.workspaces, available_bytes)
    except CapacityError as error:
        return str(error)
    return ""


def _peers_reason(point: DesignPoint, engine: EngineConfig, facts: ModelFacts, available_bytes: int) -> str:
    """Another subject has its own arithmetic, and no advice."""
    predict = find_subject(point.subject).predict
    needed = predict(facts.model, engine, facts.weights_bytes, facts.workspaces).total_bytes
    if needed <= available_bytes:
        return ""
    return f"{point.subject} needs {needed / 2**20:.1f} MiB, {available_bytes / 2**20:.1f} MiB are free"
