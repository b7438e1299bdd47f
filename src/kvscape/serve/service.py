"""What one server has, for all of its paths."""

from typing import Protocol

from kvscape.engine.answer import Answer
from kvscape.engine.gauges import Gauges
from kvscape.engine.request import Request
from kvscape.serve.metrics import ServeMetrics
from kvscape.serve.served_model import ServedModel
from kvscape.serve.settings import ServeSettings
from kvscape.serve.workers import Workers


class RunningEngine(Protocol):
    """``AsyncEngine``, or what a test has in its place."""

    @property
    def has_failed(self) -> bool: ...

    def submit(self, request: Request) -> Answer: ...

    def gauges(self) -> Gauges: ...

    async def stop(self, drain_s: float = 0.0) -> None: ...


class Service:
    """A model on a running engine, under some settings; ``stopping`` once it takes no requests any more."""

    def __init__(self, engine: RunningEngine, model: ServedModel, settings: ServeSettings) -> None:
        self.engine, self.model, self.settings = engine, model, settings
        self.metrics = ServeMetrics(engine.gauges)
        self.workers = Workers()
        self.stopping = False

    async def stop(self, drain_s: float) -> None:
        """Take no requests any more, and give those that are there ``drain_s`` to end."""
        self.stopping = True
        await self.engine.stop(drain_s)
        self.workers.close()
