"""Perplexities that nobody measured."""

from kvscape.config import DesignPoint, EngineConfig
from kvscape.config.point import BuildConfig
from kvscape.results import PerplexityRecord


def perplexity(
    value: float,
    quantization: str = "auto",
    kv_dtype: str = "f16",
    window: int = -1,
    sinks: int = 0,
    protocol: str = "windows",
    context: int = 512,
    status: str = "ok",
) -> PerplexityRecord:
    engine = EngineConfig(context, kv_dtype=kv_dtype, sliding_window_size=window, attention_sink_size=sinks)
    return PerplexityRecord(
        parameters=DesignPoint(BuildConfig(quantization=quantization), engine).flat(),
        perplexity=value,
        standard_error=0.1,
        mean_nll=3.0,
        tokens_scored=511,
        protocol=protocol,
        context=context,
        text="text",
        text_sha256="0" * 64,
        status=status,
    )
