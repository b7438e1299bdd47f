"""Points that cannot run are known before they do."""

from kvscape.analysis.fit import check_fit
from kvscape.bench.measure import point_reason
from kvscape.config import DesignPoint
from kvscape.errors import CapacityError, ConfigError
from kvscape.study.model_facts import ModelFacts


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
    try:
        check_fit(facts.model, engine, facts.weights_bytes, facts.workspaces, available_bytes)
    except CapacityError as error:
        return str(error)
    return ""
