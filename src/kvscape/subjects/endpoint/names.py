"""What an endpoint has of a design point."""

from dataclasses import fields

from kvscape.config import BuildConfig, DesignPoint, EndpointConfig, EngineConfig
from kvscape.errors import ConfigError

# The server was started with its own: a study may name them, as labels, and sets none of them.
LACKED = (
    *(field.name for field in fields(BuildConfig) if field.name != "model"),
    *(field.name for field in fields(EngineConfig)),
    "threads",
)
_OF_ENDPOINTS = (*(field.name for field in fields(EndpointConfig)), "concurrency", "lengths", "duration_s", "slo")
KNOBS = tuple(field.name for field in fields(EndpointConfig))


def check_endpoint(point: DesignPoint) -> None:
    """Raise ConfigError for a workload that makes no sense, or where no server is named."""
    work = point.workload
    if point.server.endpoint is None:
        raise ConfigError("the subject endpoint", "no server is named", "add --endpoint http://HOST:PORT")
    if work.request_rate is not None and work.concurrency is not None:
        why = "requests come at their own times or when an answer is there"
        raise ConfigError("request_rate with concurrency", why, "leave one of them out")
    if work.request_rate is not None and work.num_requests is work.duration_s is None:
        raise ConfigError("request_rate", "it has no end", "add num_requests or duration_s")
    if work.precision is not None:
        why = "a server is loaded as long as is asked, not until its figures are known"
        raise ConfigError("precision of an endpoint", why, "give num_requests, num_runs or duration_s")


def check_local(point: DesignPoint) -> None:
    """Raise ConfigError for what only an endpoint has."""
    flat = point.flat()
    for name in _OF_ENDPOINTS:
        if flat[name] is not None:
            why = f"the subject {point.subject} runs in this process"
            raise ConfigError(f"{name} = {flat[name]}", why, f"use the subject endpoint, or leave {name} out")
