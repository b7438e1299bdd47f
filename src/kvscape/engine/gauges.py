"""What an engine is doing at this moment."""

from dataclasses import dataclass

from kvscape.engine.metrics import EngineMetrics


@dataclass(frozen=True)
class Gauges:
    """``running`` and ``waiting`` count choices of requests, ``batch`` those that the newest step computed.

    Pages are those of all layer groups together; used ones belong to a sequence, cached ones do not count. ``metrics``
    are the engine's counters.
    """

    running: int
    waiting: int
    pages_used: int
    pages_total: int
    batch: int
    metrics: EngineMetrics
