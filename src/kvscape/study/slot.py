"""A device of a cluster: it measures one point at a time."""

from typing import Protocol

from kvscape.config import DesignPoint
from kvscape.results import PerplexityRecord, Record
from kvscape.study.executor import Failed
from kvscape.study.model_facts import ModelFacts
from kvscape.study.space import Quality


class SlotLostError(Exception):
    """The slot's node has gone: what it was measuring is to be measured elsewhere."""


class Slot(Protocol):
    """An executor on another machine. Its methods wait for the answer, and raise SlotLostError when there is none."""

    @property
    def name(self) -> str: ...

    @property
    def machine(self) -> str:
        """The fingerprint that is in the keys of its records."""
        ...

    @property
    def available_bytes(self) -> int: ...

    def build(self, point: DesignPoint) -> ModelFacts | Failed:
        """Have the point's artefact there, and say what it is there: another processor has another library."""
        ...

    def bench(self, point: DesignPoint) -> Record: ...

    def perplexity(self, point: DesignPoint, quality: Quality) -> PerplexityRecord: ...
