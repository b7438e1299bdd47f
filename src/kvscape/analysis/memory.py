"""What a design point needs in bytes. KV bytes per token are computed here and nowhere else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kvscape.config import KEY_GROUP, EngineConfig, KVPrecision, LayerGroup, ModelConfig

_CODE_BITS = {"f32": 32, "f16": 16, "fp8": 8, "int8": 8, "int4": 4}
_SCALE_BYTES = 2
_TAIL_KEY_BYTES = 2

# What a token's key keeps beside its codes in one head: int4 shares a scale and a minimum for each dimension among a
# group of tokens; int8 has one scale.
KEY_SCALE_BYTES: Mapping[str, Callable[[int], int]] = MappingProxyType(
    {
        "f32": lambda dim: 0,
        "f16": lambda dim: 0,
        "fp8": lambda dim: 0,
        "int8": lambda dim: _SCALE_BYTES,
        "int4": lambda dim: 2 * dim * _SCALE_BYTES // KEY_GROUP,
    }
)
VALUE_SCALE_BYTES = MappingProxyType({"f32": 0, "f16": 0, "fp8": 0, "int8": _SCALE_BYTES, "int4": 2 * _SCALE_BYTES})


# Measured, within 2.9 MB at three design points (tests/bench/memory_growth.py): compiled code, its loader and
# the virtual machine; and what each entry of the vocabulary costs in the tokenizer.
_CODE_BYTES = 13_200_000
_VOCABULARY_ENTRY_BYTES = 500

# What an H100's driver takes for a process with its code: measured, within 20 MB at 24 design points (docs/gpu.md).
_CONTEXT_BYTES = 560_000_000

_FEWEST_TILES = 8  # by which a GPU's decode step is filled up
_GAP_BYTES = (1 << 20) + (1 << 14)  # up to a MiB behind them, and less than 256 bytes between two


@dataclass(frozen=True)
class Workspace:
    """Scratch memory of one forward pass: a linear formula from the compiled module's memory plan.

    A tile of attention is up to ``tile_tokens`` tokens, or one token's keys in a range of ``range_tokens``.
    ``on_gpu`` all of it is one tensor, which is kept, since the driver is slow to give memory.
    """

    fixed_bytes: int
    bytes_per_token: int
    bytes_per_sequence: int
    bytes_per_logit_row: int
    bytes_per_tile: int = 0
    tile_tokens: int = 1
    range_tokens: int = 1
    on_gpu: bool = False

    def nbytes(self, tokens: int, sequences: int, logit_rows: int, tiles: int = 0) -> int:
        return (
            self.fixed_bytes
            + self.bytes_per_token * tokens
            + self.bytes_per_sequence * sequences
            + self.bytes_per_logit_row * logit_rows
            + self.bytes_per_tile * tiles
        )

    def busiest(self, config: EngineConfig) -> tuple[int, int, int, int]:
        """Tokens, sequences, rows of logits and tiles of the busiest step: a full chunk, every key of a full batch.

        On a GPU decode steps are filled up to a power of two of rows, and by up to a quarter of tiles.
        """
        batch = config.max_batch_size
        rows = 1 << (batch - 1).bit_length() if self.on_gpu else batch
        ranges = batch * -(-config.context_window_size // self.range_tokens) + rows - batch
        ranges += max(_FEWEST_TILES, ranges // 4) if self.on_gpu else 0
        tokens, logit_rows = max(config.prefill_chunk_size, rows), max(config.most_logit_rows, rows)
        return tokens, rows, logit_rows, max(ranges, -(-tokens // self.tile_tokens) + batch)

    @property
    def spare(self) -> int:
        """Pages and tails that fill up the steps of graphs (see ``engine.devices.decode_numbers``)."""
        return int(self.on_gpu)

    @property
    def gap_bytes(self) -> int:
        """What lies between the tensors of a GPU's scratch memory, and behind the last one."""
        return _GAP_BYTES if self.on_gpu else 0


@dataclass(frozen=True)
class Memory:
    """Bytes of one engine at rest and at its busiest."""

    weights_bytes: int
    kv_cache_bytes: int
    kv_bytes_per_token: int
    workspace_bytes: int
    runtime_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_cache_bytes + self.workspace_bytes + self.runtime_bytes


def code_bytes(dtype: str, dim: int) -> int:
    """Bytes of ``dim`` numbers, scales apart."""
    return dim * _CODE_BITS[dtype] // 8


def kv_token_bytes(model: ModelConfig, kv_dtype: str) -> int:
    """Bytes of one token's keys and values in one layer, with their scales."""
    precision, dim = KVPrecision.parse(kv_dtype), model.head_dim
    key = code_bytes(precision.key, dim) + KEY_SCALE_BYTES[precision.key](dim)
    value = code_bytes(precision.value, dim) + VALUE_SCALE_BYTES[precision.value]
    return model.num_key_value_heads * (key + value)


def tail_bytes(model: ModelConfig, kv_dtype: str) -> int:
    """Bytes of a sequence's tail in one layer: f16 keys of a group that is not complete, where keys have groups."""
    group = KVPrecision.parse(kv_dtype).key_group
    return model.num_key_value_heads * model.head_dim * group * _TAIL_KEY_BYTES if group > 1 else 0


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


def kv_cache_bytes(model: ModelConfig, config: EngineConfig, spare: int = 0) -> int:
    """Bytes of all KV pools, as they are allocated; each has ``spare`` pages and tails that no sequence gets."""
    one_page = page_bytes(model, config.kv_dtype, config.page_size)
    tails = (config.max_batch_size + spare) * tail_bytes(model, config.kv_dtype)
    groups = model.layer_groups
    return sum(len(group.layers) * ((num_pages(config, group) + spare) * one_page + tails) for group in groups)


def runtime_bytes(model: ModelConfig, workspace: Workspace) -> int:
    """Bytes that a process takes whatever the design: compiled code, virtual machine and tokenizer.

    On a GPU these are in the host's memory, and do not count; its driver takes some of its own memory instead.
    """
    return _CONTEXT_BYTES if workspace.on_gpu else _CODE_BYTES + _VOCABULARY_ENTRY_BYTES * model.vocab_size


def predict_memory(
    model: ModelConfig, config: EngineConfig, weights_bytes: int, workspaces: Mapping[str, Workspace]
) -> Memory:
    """Predict the bytes of an engine from the artefact's manifest alone.

    On a GPU they are those of its own memory.
    """
    workspace = workspaces[config.kv_dtype]
    return Memory(
        weights_bytes,
        kv_cache_bytes(model, config, workspace.spare),
        kv_bytes_per_token(model, config.kv_dtype),
        workspace.nbytes(*workspace.busiest(config)) + workspace.gap_bytes,
        runtime_bytes(model, workspace),
    )
