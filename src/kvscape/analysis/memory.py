"""What a design point needs in bytes. KV bytes per token are computed here and nowhere else."""

from collections.abc import Mapping
from dataclasses import dataclass

from kvscape.config import EngineConfig, LayerGroup, ModelConfig

_KV_CODE_BYTES = {"f32": 4, "f16": 2, "int8": 1}
_KV_SCALE_BYTES = {"f32": 0, "f16": 0, "int8": 2}


@dataclass(frozen=True)
class Workspace:
    """Scratch memory of one forward pass: a linear formula from the compiled module's memory plan."""

    fixed_bytes: int
    bytes_per_token: int
    bytes_per_sequence: int
    bytes_per_logit_row: int

    def nbytes(self, tokens: int, sequences: int, logit_rows: int) -> int:
        return (
            self.fixed_bytes
            + self.bytes_per_token * tokens
            + self.bytes_per_sequence * sequences
            + self.bytes_per_logit_row * logit_rows
        )


@dataclass(frozen=True)
class Memory:
    """Bytes of one engine at rest and at its busiest."""

    weights_bytes: int
    kv_cache_bytes: int
    kv_bytes_per_token: int
    workspace_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_cache_bytes + self.workspace_bytes


def kv_token_bytes(model: ModelConfig, kv_dtype: str) -> int:
    """Bytes of one token's keys and values in one layer; int8 keeps one f16 scale per head."""
    per_head = model.head_dim * _KV_CODE_BYTES[kv_dtype] + _KV_SCALE_BYTES[kv_dtype]
    return 2 * model.num_key_value_heads * per_head


def page_bytes(model: ModelConfig, kv_dtype: str, page_size: int) -> int:
    """Bytes of one page: keys and values of ``page_size`` tokens in one layer."""
    return page_size * kv_token_bytes(model, kv_dtype)


def kv_bytes_per_token(model: ModelConfig, kv_dtype: str) -> int:
    """Bytes of one token's keys and values in all layers."""
    return model.num_hidden_layers * kv_token_bytes(model, kv_dtype)


def num_pages(config: EngineConfig, group: LayerGroup) -> int:
    """Pages of a layer group: for all tokens, or for what its window keeps of each sequence if that is less."""
    whole = -(-config.total_tokens // config.page_size)
    if config.max_total_sequence_length is not None:
        return whole
    window, chunk = config.window(group), config.prefill_chunk_size
    kept = window.most_pages(config.context_window_size, chunk, config.page_size, config.key_group)
    return min(whole, config.max_batch_size * kept)


def kv_cache_bytes(model: ModelConfig, config: EngineConfig) -> int:
    """Bytes of all KV pools, as they are allocated."""
    one_page = page_bytes(model, config.kv_dtype, config.page_size)
    return sum(len(group.layers) * num_pages(config, group) * one_page for group in model.layer_groups)


def predict_memory(
    model: ModelConfig, config: EngineConfig, weights_bytes: int, workspaces: Mapping[str, Workspace]
) -> Memory:
    """Predict the bytes of an engine from the artefact's manifest alone.

    The busiest step holds one full chunk of tokens, and wants one row of logits for each sequence.
    """
    tokens = max(config.prefill_chunk_size, config.max_batch_size)
    workspace = workspaces[config.kv_dtype].nbytes(tokens, config.max_batch_size, config.max_batch_size)
    return Memory(weights_bytes, kv_cache_bytes(model, config), kv_bytes_per_token(model, config.kv_dtype), workspace)
