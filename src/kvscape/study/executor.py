"""Who runs the work of a study: here, one isolated process after the other."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from kvscape.config import DesignPoint
from kvscape.errors import KvscapeError
from kvscape.quality import quality_point
from kvscape.results import PerplexityRecord, Record, current_environment
from kvscape.study.child import Outcome, run_child
from kvscape.study.flags import bench_arguments, compile_arguments, kvscape_command, ppl_arguments
from kvscape.study.model_facts import ModelFacts
from kvscape.study.space import Quality

T = TypeVar("T")


@dataclass(frozen=True)
class Failed:
    """Why there is no result: ``status`` is failed, timeout, out_of_memory or infeasible."""

    status: str
    reason: str


class Executor(Protocol):
    """Gives a result or says why there is none; never raises for what a point does."""

    def build(self, point: DesignPoint) -> ModelFacts | Failed: ...

    def bench(self, point: DesignPoint) -> Record: ...

    def perplexity(self, point: DesignPoint, quality: Quality) -> PerplexityRecord: ...


@dataclass(frozen=True)
class ProcessExecutor:
    """Each piece of work is a ``kvscape ... --json`` of its own, which ends with this process.

    ``command`` puts the program before the arguments. A build has ``build_timeout_s``, since it may download a model.
    """

    timeout_s: float = 600.0
    build_timeout_s: float = 3600.0
    command: Callable[[Sequence[str]], list[str]] = kvscape_command

    def build(self, point: DesignPoint) -> ModelFacts | Failed:
        return self._run(compile_arguments(point), self.build_timeout_s, ModelFacts.from_json)

    def bench(self, point: DesignPoint) -> Record:
        result = self._run(bench_arguments(point), self.timeout_s, Record.from_json)
        return unmeasured(point, result) if isinstance(result, Failed) else result

    def perplexity(self, point: DesignPoint, quality: Quality) -> PerplexityRecord:
        result = self._run(ppl_arguments(point, quality), self.timeout_s, PerplexityRecord.from_json)
        return unscored(point, quality, result) if isinstance(result, Failed) else result

    def _run(self, arguments: list[str], timeout_s: float, read: Callable[[dict[str, Any]], T]) -> T | Failed:
        return _read(run_child(self.command([*arguments, "--json"]), timeout_s), read)


def _read(outcome: Outcome, read: Callable[[dict[str, Any]], T]) -> T | Failed:
    if outcome.status != "ok":
        return Failed(outcome.status, outcome.reason)
    try:
        return read(_object(outcome.stdout))
    except (ValueError, KeyError, TypeError, AttributeError, KvscapeError) as error:
        return Failed("failed", f"it printed no result that can be read: {type(error).__name__}: {error}")


def _object(text: str) -> dict[str, Any]:
    raw = json.loads(text)
    if not isinstance(raw, Mapping):
        raise ValueError("not a JSON object")
    return dict(raw)


def unmeasured(point: DesignPoint, failed: Failed, environment: Mapping[str, Any] | None = None) -> Record:
    """The record of a point that has no measurement; thousands of them may share an ``environment``."""
    facts = dict(environment or current_environment().to_json())
    return Record(point.flat(), {}, {}, {}, facts, status=failed.status, reason=failed.reason)


def unscored(point: DesignPoint, quality: Quality, failed: Failed) -> PerplexityRecord:
    """The record of a perplexity that could not be measured: its numbers are not numbers."""
    return PerplexityRecord(
        parameters=quality_point(point, quality.settings).flat(),
        perplexity=math.nan,
        standard_error=math.nan,
        mean_nll=math.nan,
        tokens_scored=0,
        protocol=quality.settings.protocol,
        context=quality.settings.context,
        text=quality.text.name,
        text_sha256=quality.text.sha256,
        environment=current_environment().to_json(),
        status=failed.status,
        reason=failed.reason,
    )
