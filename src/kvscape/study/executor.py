"""Who runs the work of a study: here, one isolated process after the other."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from kvscape.analysis.cpu import default_threads
from kvscape.analysis.free_memory import available_memory_bytes
from kvscape.config import DesignPoint
from kvscape.errors import KvscapeError
from kvscape.quality import quality_point
from kvscape.results import PerplexityRecord, Record, current_environment
from kvscape.study.child import Outcome, run_child
from kvscape.study.flags import bench_arguments, compile_arguments, kvscape_command, ppl_arguments
from kvscape.study.model_facts import ModelFacts
from kvscape.study.space import Quality

T = TypeVar("T")

_UNUSED_BYTES, _THREAD_BYTES = 1 << 30, 64 << 20


@dataclass(frozen=True)
class Failed:
    """Why there is no result: ``status`` is failed, timeout, out_of_memory or infeasible."""

    status: str
    reason: str


def most_memory_bytes() -> int:
    """All that is free, and what is mapped but hardly used: the stacks and buffers of threads."""
    return available_memory_bytes() + _UNUSED_BYTES + default_threads() * _THREAD_BYTES


class Executor(Protocol):
    """Gives a result or says why there is none; never raises for what a point does."""

    def build(self, point: DesignPoint) -> ModelFacts | Failed: ...

    def bench(self, point: DesignPoint) -> Record: ...

    def perplexity(self, point: DesignPoint, quality: Quality) -> PerplexityRecord: ...


@dataclass(frozen=True)
class ProcessExecutor:
    """Each piece of work is a ``kvscape ... --json`` of its own, which ends with this process.

    ``command`` puts the program before the arguments. A build has ``build_timeout_s``, since it may download a model. A
    measurement that takes more than ``memory_bytes`` ends, and the study goes on.
    """

    timeout_s: float = 600.0
    build_timeout_s: float = 3600.0
    command: Callable[[Sequence[str]], list[str]] = kvscape_command
    memory_bytes: Callable[[], int] = most_memory_bytes

    def build(self, point: DesignPoint) -> ModelFacts | Failed:
        return self._run(compile_arguments(point), ModelFacts.from_json, self.build_timeout_s)

    def bench(self, point: DesignPoint) -> Record:
        result = self._measure(bench_arguments(point), Record.from_json)
        return unmeasured(point, result) if isinstance(result, Failed) else result

    def perplexity(self, point: DesignPoint, quality: Quality) -> PerplexityRecord:
        result = self._measure(ppl_arguments(point, quality), PerplexityRecord.from_json)
        return unscored(point, quality, result) if isinstance(result, Failed) else result

    def _measure(self, arguments: list[str], read: Callable[[dict[str, Any]], T]) -> T | Failed:
        return self._run(arguments, read, self.timeout_s, self.memory_bytes())

    def _run(
        self, arguments: list[str], read: Callable[[dict[str, Any]], T], timeout_s: float, memory_bytes: int = 0
    ) -> T | Failed:
        return read_result(run_child(self.command([*arguments, "--json"]), timeout_s, memory_bytes), read)


def read_result(outcome: Outcome, read: Callable[[dict[str, Any]], T]) -> T | Failed:
    """What a command printed with ``--json``."""
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
    facts = dict(environment or current_environment(point.build.device).to_json())
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
        environment=current_environment(point.build.device).to_json(),
        status=failed.status,
        reason=failed.reason,
    )
