"""How a measure or a parameter is shown: its title, its unit, the factor to that unit, and which way is better."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kvscape.config import DesignPoint

MIB = 1 / 2**20
OFF = "off"
_DEFAULTS = DesignPoint().flat()


@dataclass(frozen=True)
class Quantity:
    """A metric under its own name in records, and the words for it in figures and tables."""

    name: str
    title: str
    unit: str = ""
    factor: float = 1.0
    digits: int = 1
    best: Literal["min", "max", ""] = ""

    @property
    def label(self) -> str:
        """Axis title, e.g. ``KV cache (MiB)``."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def shown(self, value: float | None) -> str:
        """The number in the quantity's unit, or a dash where there is none."""
        return "-" if value is None else f"{value * self.factor:,.{self.digits}f}"


QUANTITIES: Mapping[str, Quantity] = {
    q.name: q
    for q in (
        Quantity("total_bytes", "Total memory", "MiB", MIB, best="min"),
        Quantity("weights_bytes", "Weights", "MiB", MIB, best="min"),
        Quantity("kv_cache_bytes", "KV cache", "MiB", MIB, best="min"),
        Quantity("kv_bytes_per_token", "KV cache per token", "KiB", 1 / 2**10, best="min"),
        Quantity("workspace_bytes", "Workspace", "MiB", MIB, best="min"),
        Quantity("runtime_bytes", "Runtime", "MiB", MIB, best="min"),
        Quantity("peak_rss_bytes", "Peak process memory", "MiB", MIB, best="min"),
        Quantity("peak_device_bytes", "Peak device memory", "MiB", MIB, best="min"),
        Quantity("bits_per_weight", "Bits per weight", digits=2),
        Quantity("decode_tokens_per_s", "Decode speed", "tokens/s", best="max"),
        Quantity("prefill_tokens_per_s", "Prefill speed", "tokens/s", best="max"),
        Quantity("ttft_s", "Time to first token", "ms", 1e3, best="min"),
        Quantity("tpot_s", "Time per output token", "ms", 1e3, 2, best="min"),
        Quantity("itl_p50_s", "Inter-token latency, median", "ms", 1e3, 2, best="min"),
        Quantity("itl_p99_s", "Inter-token latency, 99th percentile", "ms", 1e3, 2, best="min"),
        Quantity("e2e_s", "End to end", "ms", 1e3, best="min"),
        *(
            Quantity(f"{stem}_{percentile}_s", f"{title}, {percentile[1:]}th percentile", "ms", 1e3, digits, best="min")
            for stem, title, digits in (
                ("ttft", "Time to first token", 1),
                ("tpot", "Time per output token", 2),
                ("itl", "Inter-token latency", 2),
                ("e2e", "End to end", 1),
            )
            for percentile in ("p90", "p95", "p99")
            if (stem, percentile) != ("itl", "p99")
        ),
        Quantity("requests_per_s", "Requests", "1/s", digits=2, best="max"),
        Quantity("goodput_requests_per_s", "Goodput", "1/s", digits=2, best="max"),
        Quantity("failed_share", "Failed requests", "%", 100, best="min"),
        Quantity("chars_per_s", "Characters", "1/s", best="max"),
        Quantity("perplexity", "Perplexity", digits=2, best="min"),
        Quantity("prefix_cache_hit_rate", "Prefix cache hits", "%", 100, best="max"),
    )
}

SHORT: Mapping[str, str] = {
    "model": "model",
    "device": "device",
    "subject": "subject",
    "machine": "machine",
    "quantization": "quantization",
    "kv_dtype": "KV",
    "context_window_size": "context",
    "prefill_chunk_size": "chunk",
    "max_batch_size": "batch",
    "sliding_window_size": "window",
    "attention_sink_size": "sinks",
    "max_total_sequence_length": "KV pool",
    "page_size": "page",
    "prefix_cache": "prefix cache",
    "mixed_chunk_size": "mixed chunk",
    "prompt_lookup_tokens": "draft",
    "embedding_quantization": "embedding",
    "calibrate": "calibration",
    "activation": "activation",
    "threads": "threads",
    "asked": "workload",
    "endpoint": "server",
    "prompt_tokens": "prompt",
    "max_tokens": "output",
    "num_requests": "requests",
    "request_rate": "requests/s",
    "concurrency": "clients",
    "lengths": "lengths",
    "duration_s": "seconds",
    "total_bytes": "memory",
    "kv_cache_bytes": "KV cache",
    "prefill_tokens_per_s": "prefill",
    "decode_tokens_per_s": "decode",
    "ttft_s": "TTFT",
    "tpot_s": "TPOT",
    "e2e_s": "E2E",
    "perplexity": "PPL",
}

PARAMETERS: Mapping[str, str] = {
    "quantization": "Quantization",
    "kv_dtype": "KV precision",
    "context_window_size": "Context window (tokens)",
    "prefill_chunk_size": "Prefill chunk (tokens)",
    "max_batch_size": "Batch (sequences)",
    "sliding_window_size": "Sliding window (tokens)",
    "attention_sink_size": "Attention sinks (tokens)",
}

# What a study seldom varies; shown only where it does.
MORE_PARAMETERS: Mapping[str, str] = {
    "max_total_sequence_length": "KV pool (tokens)",
    "page_size": "KV page (tokens)",
    "prefix_cache": "Prefix cache",
    "mixed_chunk_size": "Mixed chunk (tokens)",
    "prompt_lookup_tokens": "Draft (tokens)",
    "embedding_quantization": "Embedding",
    "calibrate": "Calibration",
    "activation": "Activation",
    "threads": "Threads",
}

# What is asked of a point.
ASKED_PARAMETERS: Mapping[str, str] = {
    "prompt_tokens": "Prompt (tokens)",
    "max_tokens": "Output (tokens)",
    "num_requests": "Requests",
    "request_rate": "Requests a second",
    "concurrency": "Clients",
    "lengths": "Lengths",
    "duration_s": "Duration (s)",
}


def settings(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point's knobs by their titles: those that every study has, and others that are not as they are by default."""
    shown = {name: title for name, title in PARAMETERS.items() if name in point}
    shown |= {name: title for name, title in MORE_PARAMETERS.items() if point.get(name) != _DEFAULTS[name]}
    return {title: point[name] for name, title in shown.items() if name in point}


def level_words(value: Any) -> str:
    """A knob's value as it is read: 4,096 or off; a dash where it is left to its default."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "on" if value else OFF
    return OFF if value == -1 else f"{value:,g}" if isinstance(value, float) else _text(value)


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
