"""The other end of a cluster's slot: runs on a node, and starts each point there as a process of its own."""

import hashlib
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kvscape.analysis.free_memory import available_memory_bytes
from kvscape.bench import turn
from kvscape.bench.reference import Reference, Watch
from kvscape.config import DesignPoint
from kvscape.files import written_file
from kvscape.hub.cache import cache_dir
from kvscape.results import PerplexityRecord, Record, current_environment
from kvscape.study.executor import Failed, ProcessExecutor, unmeasured
from kvscape.study.feasibility import infeasible_reason
from kvscape.study.flags import kvscape_command
from kvscape.study.model_facts import ModelFacts
from kvscape.study.shipped import Shelf
from kvscape.study.space import Quality
from kvscape.study.watched import Watched
from kvscape.version import __version__


@dataclass(frozen=True)
class Hello:
    """What a node says of itself."""

    name: str
    machine: str
    available_bytes: int
    version: str


@dataclass(frozen=True)
class Means:
    """How a node works; tests have a program and a reference of their own."""

    timeout_s: float = 600.0
    command: Callable[[Sequence[str]], list[str]] = kvscape_command
    reference: Callable[[], float] | None = None


class Node:
    """Works in its turn among the processes of its machine. Answers name the model as the study does."""

    def __init__(self, means: Means) -> None:
        # Ray sets it to the cores that a task asked for: a measurement takes what --threads says.
        os.environ.pop("OMP_NUM_THREADS", None)
        self._executor = ProcessExecutor(means.timeout_s, command=means.command)
        self._watched = Watched(self._executor, Watch(means.reference or Reference()))

    def hello(self) -> Hello:
        return Hello(platform.node(), current_environment().machine, available_memory_bytes(), __version__)

    def missing(self, shelf: Shelf, files: dict[str, int]) -> list[str]:
        return shelf.missing(files)

    def write(self, shelf: Shelf, file: str, start: int, chunk: bytes) -> None:
        shelf.write(file, start, chunk)

    def finish(self, shelf: Shelf, file: str) -> None:
        shelf.finish(file)

    def build(self, point: DesignPoint, shelf: Shelf | None) -> ModelFacts | Failed:
        return self._executor.build(_here(point, shelf))

    def bench(self, point: DesignPoint, shelf: Shelf | None, facts: ModelFacts) -> Record:
        with turn(lambda: None):
            if reason := infeasible_reason(point, facts, available_memory_bytes(point.build.device)):
                return unmeasured(point, Failed("infeasible", reason))
            return replace(self._watched.bench(_here(point, shelf)), parameters=point.flat())

    def perplexity(
        self, point: DesignPoint, shelf: Shelf | None, quality: Quality, text: bytes | None
    ) -> PerplexityRecord:
        with turn(lambda: None):
            record = self._executor.perplexity(_here(point, shelf), _with_text(quality, text))
        return replace(record, parameters={**record.parameters, "model": point.build.model})


def _here(point: DesignPoint, shelf: Shelf | None) -> DesignPoint:
    """The point with the artefact that was sent; it was calibrated where it was made."""
    if shelf is None:
        return point
    return replace(point, build=replace(point.build, model=str(shelf.folder), calibrate=None))


def _with_text(quality: Quality, content: bytes | None) -> Quality:
    """A user's file, written to where this node can read it; other texts a node gets by itself."""
    if quality.choice.text is None or content is None:
        return quality
    path = cache_dir() / "shipped" / "texts" / hashlib.sha256(content).hexdigest()[:12] / quality.choice.text.name
    if not path.exists():
        with written_file(path) as temporary:
            temporary.write_bytes(content)
    return replace(quality, choice=replace(quality.choice, text=path))
