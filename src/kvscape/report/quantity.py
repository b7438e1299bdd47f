"""How a measure or a parameter is shown to a person: its title, its unit, and the factor to that unit."""

from collections.abc import Mapping
from dataclasses import dataclass

MIB = 1 / 2**20


@dataclass(frozen=True)
class Quantity:
    """A metric under its own name in records, and the words for it in figures and tables."""

    name: str
    title: str
    unit: str = ""
    factor: float = 1.0
    digits: int = 1

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
        Quantity("total_bytes", "Total memory", "MiB", MIB),
        Quantity("weights_bytes", "Weights", "MiB", MIB),
        Quantity("kv_cache_bytes", "KV cache", "MiB", MIB),
        Quantity("kv_bytes_per_token", "KV cache per token", "KiB", 1 / 2**10),
        Quantity("workspace_bytes", "Workspace", "MiB", MIB),
        Quantity("runtime_bytes", "Runtime", "MiB", MIB),
        Quantity("peak_rss_bytes", "Peak process memory", "MiB", MIB),
        Quantity("bits_per_weight", "Bits per weight", digits=2),
        Quantity("decode_tokens_per_s", "Decode speed", "tokens/s"),
        Quantity("prefill_tokens_per_s", "Prefill speed", "tokens/s"),
        Quantity("ttft_s", "Time to first token", "ms", 1e3),
        Quantity("tpot_s", "Time per output token", "ms", 1e3, 2),
        Quantity("itl_p50_s", "Inter-token latency, median", "ms", 1e3, 2),
        Quantity("itl_p99_s", "Inter-token latency, 99th percentile", "ms", 1e3, 2),
        Quantity("e2e_s", "End to end", "ms", 1e3),
        Quantity("chars_per_s", "Characters", "1/s"),
        Quantity("perplexity", "Perplexity", digits=2),
        Quantity("prefix_cache_hit_rate", "Prefix cache hits", "%", 100),
    )
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
