"""Records: what a measurement writes and a report reads."""

from kvscape.results.environment import Environment, current_environment
from kvscape.results.record import LATENCIES, LOAD_METRICS, METRICS, STATUSES, PerplexityRecord, Record

__all__ = [
    "LATENCIES",
    "LOAD_METRICS",
    "METRICS",
    "STATUSES",
    "Environment",
    "PerplexityRecord",
    "Record",
    "current_environment",
]
