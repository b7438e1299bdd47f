"""The run side: requests in, tokens out, on a device that has a compiled model."""

from kvscape.engine.engine import Engine
from kvscape.engine.metrics import EngineMetrics, RequestMetrics
from kvscape.engine.request import FinishReason, Output, Request, SamplingParams, TokenLogprob

__all__ = [
    "Engine",
    "EngineMetrics",
    "FinishReason",
    "Output",
    "Request",
    "RequestMetrics",
    "SamplingParams",
    "TokenLogprob",
]
