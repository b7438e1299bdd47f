"""The engine's knobs: all of them run-time values of one compiled library."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kvscape.config.fields import from_mapping
from kvscape.config.model import ModelConfig
from kvscape.errors import ConfigError, near_match

KV_DTYPES = ("f32", "f16", "int8")


@dataclass(frozen=True)
class EngineConfig:
    """Context, batching and KV cache of one engine, in MLC-LLM's words; lengths are in tokens.

    ``sliding_window_size`` -1 means off; ``attention_sink_size`` -1 means 0, as MLC's configurations have it.
    ``max_total_sequence_length`` None means context x batch. ``prefix_cache`` shares the pages of equal beginnings.
    """

    context_window_size: int = 2048
    prefill_chunk_size: int = 512
    max_batch_size: int = 1
    max_total_sequence_length: int | None = None
    sliding_window_size: int = -1
    attention_sink_size: int = 0
    kv_dtype: str = "f16"
    page_size: int = 16
    prefix_cache: bool = True

    def __post_init__(self) -> None:
        if self.attention_sink_size == -1:
            object.__setattr__(self, "attention_sink_size", 0)
        for name in ("context_window_size", "prefill_chunk_size", "max_batch_size", "page_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it must be at least 1", "give a positive number")
        if self.max_total_sequence_length is not None and self.max_total_sequence_length < 1:
            raise ConfigError(
                f"max_total_sequence_length = {self.max_total_sequence_length}",
                "it must be at least 1",
                "give a positive number of tokens",
            )
        if self.kv_dtype not in KV_DTYPES:
            raise ConfigError(f"unknown kv_dtype {self.kv_dtype!r}", "", near_match(self.kv_dtype, KV_DTYPES))
        if self.sliding_window_size != -1 or self.attention_sink_size != 0:
            raise ConfigError(
                f"sliding_window_size = {self.sliding_window_size}, attention_sink_size = {self.attention_sink_size}",
                "this version keeps the whole context",
                "use sliding_window_size -1 and attention_sink_size 0",
            )

    @classmethod
    def chosen(cls, given: Mapping[str, Any], model: ModelConfig) -> "EngineConfig":
        """Fields that are given and not None, the rest by default; a model made for less than 2048 gets its context."""
        fields = {name: value for name, value in given.items() if value is not None}
        fields.setdefault("context_window_size", min(cls.context_window_size, model.max_position_embeddings))
        return from_mapping(cls, fields).fitted(model)

    @property
    def total_tokens(self) -> int:
        """Tokens the KV cache must hold."""
        return self.max_total_sequence_length or self.context_window_size * self.max_batch_size

    def fitted(self, model: ModelConfig) -> "EngineConfig":
        """Check the context against the model's own; raise ConfigError if the model was not made for it."""
        if self.context_window_size > model.max_position_embeddings:
            raise ConfigError(
                f"context_window_size = {self.context_window_size}",
                f"the model was made for {model.max_position_embeddings} tokens",
                f"use at most {model.max_position_embeddings}",
            )
        return replace(self, prefill_chunk_size=min(self.prefill_chunk_size, self.context_window_size))
