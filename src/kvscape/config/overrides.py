"""The ``--overrides "context_window_size=4096;prefill_chunk_size=1024"`` string of MLC-LLM."""

from kvscape.errors import ConfigError, near_match

OVERRIDABLE = (
    "context_window_size",
    "prefill_chunk_size",
    "max_batch_size",
    "max_total_sequence_length",
    "sliding_window_size",
    "attention_sink_size",
    "page_size",
)
# MLC-LLM's, which a library for one GPU has too.
_SHARDS = "tensor_parallel_shards"


def parse_overrides(text: str) -> dict[str, int]:
    """Return the fields set by an overrides string; raise ConfigError for an unknown or repeated key or no number."""
    result: dict[str, int] = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in (*OVERRIDABLE, _SHARDS):
            raise ConfigError(f"unknown override {key!r}", "", near_match(key, OVERRIDABLE))
        if key in result:
            raise ConfigError(f"override {part!r}", f"{key} is set twice", "leave one out")
        result[key] = _number(part, key, value)
    if (shards := result.pop(_SHARDS, 1)) != 1:
        raise ConfigError(f"override {_SHARDS}={shards}", "a model runs on one device, whole", f"use {_SHARDS}=1")
    return result


def _number(part: str, key: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        example = 1 if key == _SHARDS else 1024
        raise ConfigError(f"override {part!r}", "the value is not a whole number", f"write {key}={example}") from None
