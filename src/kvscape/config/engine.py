"""The engine's knobs: all of them run-time values of one compiled library."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kvscape.config.fields import from_mapping
from kvscape.config.model import LayerGroup, ModelConfig
from kvscape.config.precision import KVPrecision
from kvscape.config.window import Window
from kvscape.errors import ConfigError


@dataclass(frozen=True)
class EngineConfig:
    """Context, batching and KV cache of one engine, in MLC-LLM's words; lengths are in tokens.

    ``mixed_chunk_size`` is what ``prefill_chunk_size`` is in a step in which answers go on, too: small, and they go on
    evenly while long prompts come; 0 means the same. ``sliding_window_size`` -1 means off; ``attention_sink_size`` -1
    means 0, as MLC's configurations have it. ``kv_dtype`` names one precision, or two: ``k=int8,v=int4``.
    ``max_total_sequence_length`` None means context x batch. ``prefix_cache`` shares the pages of equal beginnings.
    ``prompt_lookup_tokens`` more are computed in a step, those that stood behind a sequence's newest tokens where these
    were before; 0 means off. It changes no answer.
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
    mixed_chunk_size: int = 0
    prompt_lookup_tokens: int = 0

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
        for name, off in (("mixed_chunk_size", "the same as prefill_chunk_size"), ("prompt_lookup_tokens", "none")):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it must be at least 0", f"use 0 for {off}")
        object.__setattr__(self, "kv_dtype", KVPrecision.parse(self.kv_dtype).name)
        self._check_window()

    def _check_window(self) -> None:
        sinks, size = self.attention_sink_size, self.sliding_window_size
        if size != -1 and size < 1:
            raise ConfigError(f"sliding_window_size = {size}", "it must be at least 1", "use -1 for no window")
        if sinks < 0:
            raise ConfigError(f"attention_sink_size = {sinks}", "it must be at least 0", "use 0 for no sinks")
        if sinks and size == -1:
            raise ConfigError(f"attention_sink_size = {sinks}", "there is no window", "set sliding_window_size too")
        if sinks and sinks >= size:
            raise ConfigError(
                f"attention_sink_size = {sinks}",
                f"sinks are inside the window of {size} tokens, which must hold the query too",
                f"use at most {size - 1}",
            )

    @classmethod
    def chosen(cls, given: Mapping[str, Any], model: ModelConfig) -> "EngineConfig":
        """Fields that are given and not None, the rest by default; a model made for less than 2048 gets its context."""
        fields = {name: value for name, value in given.items() if value is not None}
        fields.setdefault("context_window_size", min(cls.context_window_size, model.max_position_embeddings))
        return from_mapping(cls, fields).fitted(model)

    @property
    def total_tokens(self) -> int:
        """Tokens the KV cache must hold where nothing falls out of a window."""
        return self.max_total_sequence_length or self.context_window_size * self.max_batch_size

    @property
    def most_logit_rows(self) -> int:
        """Tokens of one step whose logits decide something: one of each sequence, and those of its draft."""
        rows = self.max_batch_size * (1 + self.prompt_lookup_tokens)
        return min(rows, max(self.max_batch_size, self.prefill_chunk_size))

    @property
    def key_group(self) -> int:
        """Tokens whose keys are rounded together."""
        return KVPrecision.parse(self.kv_dtype).key_group

    @property
    def seen_tokens(self) -> int:
        """Tokens that a query may see at most, whatever window its layer has of itself."""
        window = self.sliding_window_size
        return self.context_window_size if window == -1 else min(window, self.context_window_size)

    def window(self, group: LayerGroup) -> Window:
        """What a layer group's queries see: the narrower of its own window and the engine's."""
        sizes = [size - self.attention_sink_size for size in (self.sliding_window_size,) if size != -1]
        sizes += [group.sliding_window_size] if group.sliding_window_size != -1 else []
        return Window(self.attention_sink_size, min(sizes)) if sizes else Window()

    def fitted(self, model: ModelConfig) -> "EngineConfig":
        """Check what a query sees against the model's own context; raise ConfigError if it was not made for it.

        With a window the positions are those inside the cache, so that a text may be longer than the model's context;
        so it may where every layer of the model has a window of its own.
        """
        name = "context_window_size" if self.sliding_window_size == -1 else "sliding_window_size"
        windows = [group.sliding_window_size for group in model.layer_groups]
        seen = self.seen_tokens if -1 in windows else min(self.seen_tokens, max(windows))
        if seen > model.longest_context:
            raise ConfigError(
                f"{name} = {seen}",
                f"the model was made for {model.longest_context} tokens",
                f"use at most {model.longest_context}",
            )
        return replace(self, prefill_chunk_size=min(self.prefill_chunk_size, self.context_window_size))
