"""The record of one measured design point, and of one perplexity; keys are fixed, units are in their names."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from kvscape.results.divergence import Divergence

METRICS = (
    "weights_bytes",
    "kv_cache_bytes",
    "kv_bytes_per_token",
    "workspace_bytes",
    "runtime_bytes",
    "total_bytes",
    "peak_rss_bytes",
    "bits_per_weight",
    "prefill_tokens_per_s",
    "decode_tokens_per_s",
    "ttft_s",
    "tpot_s",
    "itl_p50_s",
    "itl_p99_s",
    "e2e_s",
    "chars_per_s",
    "perplexity",
)
LATENCIES = tuple(f"{name}_{percentile}_s" for name in ("ttft", "tpot", "e2e") for percentile in ("p90", "p95", "p99"))
# What a load on an endpoint has beside METRICS.
LOAD_METRICS = (
    *LATENCIES,
    "itl_p90_s",
    "itl_p95_s",
    "requests_per_s",
    "goodput_requests_per_s",
    "failed_share",
)
STATUSES = ("ok", "infeasible", "failed", "timeout", "out_of_memory", "predicted")


@dataclass(frozen=True)
class Record:
    """One design point: ``parameters`` as flags, ``metrics`` as medians of ``samples``, and what was predicted.

    A point of status "predicted" was not run: it has no metrics. ``intervals`` and ``predicted_intervals`` hold
    [low, high] of a metric, 95 % of what is to be expected of its median and of its prediction; few runs have none.
    ``warm_up_s`` says how long the runs took that are no samples. What is not known has no metric, as the bytes of an
    endpoint. ``errors`` counts its requests that failed by their status, and those that were refused and tried again.
    """

    parameters: dict[str, Any]
    metrics: dict[str, float]
    predicted: dict[str, float]
    samples: dict[str, list[float]]
    environment: dict[str, Any]
    status: str = "ok"
    reason: str = ""
    kernels: tuple[str, ...] = ()
    intervals: dict[str, list[float]] = field(default_factory=dict)
    predicted_intervals: dict[str, list[float]] = field(default_factory=dict)
    warm_up_s: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Record":
        return cls(**{**raw, "kernels": tuple(raw.get("kernels", ()))})


@dataclass(frozen=True)
class PerplexityRecord:
    """Perplexity of one build and KV precision on one text under one protocol.

    Two of them compare where protocol, context, stride, limit and ``text_sha256`` are the same: ``measure`` names them.
    ``unit`` is what it is the perplexity of, a token or a word. ``bits_per_byte`` compares tokenizers.
    ``text_tokens`` counts all of the text. The ``curve`` of a stream has {tokens, perplexity, running_perplexity} at
    each of its marks: of the mark's own tokens, and of all so far. ``calibration`` is that of the weights, if any: of
    the text's tokens the share ``calibration_overlap`` lies in runs that the weights were calibrated on.
    ``paired_with`` names the model that was measured beside it, Hugging Face's or the quantized one.
    """

    parameters: dict[str, Any]
    perplexity: float
    standard_error: float
    mean_nll: float
    tokens_scored: int
    protocol: str
    context: int
    text: str
    text_sha256: str
    environment: dict[str, Any] = field(default_factory=dict)
    status: str = "ok"
    reason: str = ""
    stride: int = 0
    limit: int | None = None
    text_tokens: int = 0
    bits_per_byte: float | None = None
    unit: str = "token"
    curve: list[dict[str, float]] = field(default_factory=list)
    calibration: dict[str, Any] | None = None
    calibration_overlap: float = 0.0
    divergence: Divergence | None = None
    bits_per_weight: float | None = None
    paired_with: str = ""

    @property
    def measure(self) -> tuple[Any, ...]:
        """What two records must share for their perplexities to compare."""
        return self.protocol, self.context, self.stride, self.limit, self.text_sha256

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "PerplexityRecord":
        """Read a record; what JSON has no word for, and so is null, is not a number."""
        numbers = ("perplexity", "standard_error", "mean_nll")
        absent = dict.fromkeys((name for name in numbers if raw.get(name, 0) is None), math.nan)
        divergence = raw.get("divergence")
        return cls(**{**raw, **absent, "divergence": Divergence.from_json(divergence) if divergence else None})
