"""Bytes of llama.cpp: what the arithmetic says, and what its log says it allocated."""

import re
from collections.abc import Mapping

from kvscape.analysis.memory import Memory, Workspace
from kvscape.config import EngineConfig, ModelConfig
from kvscape.errors import DeviceError
from kvscape.subjects.llamacpp.names import kv_types

# Elements and bytes of one block (ggml_type_size).
_BLOCKS = {"f32": (1, 4), "f16": (1, 2), "q8_0": (32, 34), "q4_0": (32, 18)}
# Measured as kvscape's own (analysis/memory): library and graph; an entry of the vocabulary.
_CODE_BYTES = 9_600_000
_VOCABULARY_ENTRY_BYTES = 430
_CELLS = 256
_MIB = 2**20


def kv_bytes_per_token(model: ModelConfig, kv_dtype: str) -> int:
    """Bytes of one token's keys and values in all layers."""
    elements = model.num_key_value_heads * model.head_dim
    sizes = (_BLOCKS[name] for name in kv_types(kv_dtype))
    return model.num_hidden_layers * sum(elements * nbytes // block for block, nbytes in sizes)


def kv_cells(config: EngineConfig) -> int:
    """Tokens that the cache holds: each sequence's share is rounded up to 256."""
    return -(-config.context_window_size // _CELLS) * _CELLS * config.max_batch_size


def kv_cache_bytes(model: ModelConfig, config: EngineConfig) -> int:
    return kv_cells(config) * kv_bytes_per_token(model, config.kv_dtype)


def runtime_bytes(model: ModelConfig) -> int:
    """Bytes that a process takes whatever the design."""
    return _CODE_BYTES + _VOCABULARY_ENTRY_BYTES * model.vocab_size


def predict(
    model: ModelConfig, config: EngineConfig, weights_bytes: int, workspaces: Mapping[str, Workspace] | None = None
) -> Memory:
    """Predict the bytes of a point; ``workspaces`` is not used.

    llama.cpp publishes no formula of its compute buffers: the workspace is an estimate, the activations that must live
    at once in a layer, the attention mask in f32 and f16, and the logits.
    """
    tokens, batch = max(config.prefill_chunk_size, config.max_batch_size), config.max_batch_size
    layer = 4 * tokens * (2 * model.intermediate_size + 2 * model.hidden_size)
    mask = 6 * tokens * kv_cells(config) // batch
    logits = 2 * 4 * batch * model.vocab_size  # of the graph, and of the context
    per_token = kv_bytes_per_token(model, config.kv_dtype)
    cache = kv_cache_bytes(model, config)
    return Memory(weights_bytes, cache, per_token, layer + mask + logits, runtime_bytes(model))


def measured_memory(log: str, model: ModelConfig, config: EngineConfig, weights_bytes: int) -> Memory:
    """Read the compute and output buffers from the log (exact to 0.01 MiB) and hold the KV cache's bytes against it.

    Raises DeviceError when llama.cpp allocated another cache than it should.
    """
    nbytes, logged = kv_cache_bytes(model, config), _logged(log, "KV")
    if abs(nbytes - logged) > 0.01 * _MIB:
        what = f"llama.cpp allocated {logged / _MIB:.2f} MiB for the KV cache"
        raise DeviceError(what, f"{nbytes / _MIB:.2f} MiB were expected", "use the version that kvscape[peers] pins")
    workspace = _logged(log, "compute") + _logged(log, "output")
    per_token = kv_bytes_per_token(model, config.kv_dtype)
    return Memory(weights_bytes, nbytes, per_token, workspace, runtime_bytes(model))


def _logged(log: str, kind: str) -> int:
    sizes = re.findall(rf"\b{kind} buffer size =\s*([\d.]+) MiB", log)
    return round(sum(map(float, sizes)) * _MIB)
