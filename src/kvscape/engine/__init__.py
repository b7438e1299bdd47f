"""The run side: requests in, tokens out, on a device that has a compiled model."""

from kvscape.engine.answer import Answer
from kvscape.engine.async_engine import AsyncEngine
from kvscape.engine.engine import Engine
from kvscape.engine.gauges import Gauges
from kvscape.engine.guide import Guide
from kvscape.engine.metrics import EngineMetrics, RequestMetrics
from kvscape.engine.request import FinishReason, Output, Request, SamplingParams
from kvscape.engine.token_logprob import TokenLogprob

__all__ = [
    "Answer",
    "AsyncEngine",
    "Engine",
    "EngineMetrics",
    "FinishReason",
    "Gauges",
    "Guide",
    "Output",
    "Request",
    "RequestMetrics",
    "SamplingParams",
    "TokenLogprob",
]
