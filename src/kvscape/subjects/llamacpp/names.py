"""What llama.cpp has of a design point, in its own numbers; the rest is refused by name."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from kvscape.config import DesignPoint, EngineConfig, KVPrecision
from kvscape.errors import ConfigError, near_match
from kvscape.subjects.endpoint import KNOBS, check_local

# llama_ftype; auto is the file as it is.
QUANTIZATIONS: Mapping[str, int | None] = MappingProxyType(
    {
        "auto": None, "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10,
        "q3_k_m": 12, "q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18,
    }
)  # fmt: skip
# ggml_type
TENSOR_TYPES: Mapping[str, int] = MappingProxyType(
    {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8}
)
KV_TYPES: Mapping[str, str] = MappingProxyType({"f32": "f32", "f16": "f16", "int8": "q8_0", "int4": "q4_0"})

_KNOBS = (
    "quantization",
    "embedding_quantization",
    "context_window_size",
    "prefill_chunk_size",
    "max_batch_size",
    "kv_dtype",
    "threads",
)
_LACKED = (
    "max_total_sequence_length",
    "sliding_window_size",
    "attention_sink_size",
    "page_size",
    "mixed_chunk_size",
    "prompt_lookup_tokens",
)
LACKED = (*_LACKED, *KNOBS, "activation", "calibrate")
# What is asked is no knob: a point that asks for it is refused, never run as another workload.
_TOGETHER = ("num_requests", "request_rate")


def kv_types(kv_dtype: str) -> tuple[str, str]:
    """GGML's names of the types of keys and values: our int8 is its Q8_0, our int4 its Q4_0."""
    precision = KVPrecision.parse(kv_dtype)
    return KV_TYPES[precision.key], KV_TYPES[precision.value]


def check_point(point: DesignPoint) -> None:
    """Raise ConfigError for a name or a knob that llama.cpp does not have."""
    check_local(point)
    build = point.build
    if build.quantization not in QUANTIZATIONS:
        raise _unknown("quantization", build.quantization, QUANTIZATIONS)
    if build.embedding_quantization is not None and build.embedding_quantization not in TENSOR_TYPES:
        raise _unknown("embedding quantization", build.embedding_quantization, TENSOR_TYPES)
    if build.quantization == "auto" and build.embedding_quantization is not None:
        raise ConfigError("llamacpp: embedding_quantization", "auto is the file as it is", "name a quantization too")
    _check_kv(KVPrecision.parse(point.engine.kv_dtype))
    for name, value in _set(point):
        raise ConfigError(
            f"llamacpp has no {name} = {value}", f"its knobs are {', '.join(_KNOBS)}", f"leave {name} out"
        )


def _check_kv(precision: KVPrecision) -> None:
    for dtype in (precision.key, precision.value):
        if dtype not in KV_TYPES:
            raise ConfigError(f"llamacpp has no KV precision {dtype}", "", f"use {', '.join(KV_TYPES)}")


def _unknown(what: str, name: str, known: Mapping[str, object]) -> ConfigError:
    return ConfigError(f"llamacpp has no {what} {name!r}", "", near_match(name, known))


def _set(point: DesignPoint) -> Iterator[tuple[str, object]]:
    """Parameters that llama.cpp lacks and that are not what they are by default."""
    if point.build.activation != DesignPoint().build.activation:
        yield "activation", point.build.activation
    if point.build.device not in ("cpu", "cpu:0"):
        yield "device", point.build.device
    if point.build.calibrate is not None:
        yield "calibrate", point.build.calibrate
    for name in _LACKED:
        if getattr(point.engine, name) != getattr(EngineConfig, name):
            yield name, getattr(point.engine, name)
    for name in _TOGETHER:
        if (asked := getattr(point.workload, name)) is not None:
            yield name, asked
