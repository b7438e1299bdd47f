"""Bytes of a transformers model: what the arithmetic says of weights, cache and activations."""

import math
from collections.abc import Mapping

from kvscape.analysis.memory import Memory, Workspace
from kvscape.config import BuildConfig, EngineConfig, ModelConfig
from kvscape.quantization.format import FORMATS
from kvscape.quantization.scheme import EMBEDDING, HEAD, Scheme
from kvscape.subjects.transformers.names import KV_BYTES, QUANTIZATIONS
from kvscape.weights.canonical import canonical_shapes

_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# Measured on a CPU: what a process grows by that loads the default model and scores, weights and cache apart.
_LIBRARY_BYTES = 400_000_000
# bitsandbytes: 4-bit codes have an f32 for each 64 weights, 8-bit codes one for each row.
_BLOCK = 64


def weights_bytes(model: ModelConfig, build: BuildConfig) -> int:
    """Bytes of the loaded weights: a rounded model's are floats, as those of any other."""
    precision = QUANTIZATIONS[build.quantization]
    size = _DTYPE_BYTES[precision.dtype_on(build.device)]
    return sum(_bytes(name, shape, size, precision.bits) for name, shape in canonical_shapes(model).items())


def _bytes(name: str, shape: tuple[int, ...], size: int, bits: int | None) -> int:
    count = math.prod(shape)
    if bits is None or len(shape) == 1 or name in (EMBEDDING, HEAD):
        return size * count
    return count + 4 * shape[0] if bits == 8 else count // 2 + 4 * -(-count // _BLOCK)


def bits_per_weight(model: ModelConfig, build: BuildConfig) -> float:
    """Bits of a weight: where weights are rounded, those of the format that they are rounded to."""
    shapes, rounded = canonical_shapes(model), QUANTIZATIONS[build.quantization].rounded
    weights = sum(map(math.prod, shapes.values()))
    if rounded is None:
        return 8 * weights_bytes(model, build) / weights
    scheme, own = Scheme(rounded, build.embedding_quantization), FORMATS["f32"]
    formats = {name: scheme.format_of(name, shape, own) for name, shape in shapes.items()}
    return sum(formats[name].bits_per_weight * math.prod(shape) for name, shape in shapes.items()) / weights


def kv_bytes_per_token(model: ModelConfig, kv_dtype: str) -> int:
    """Bytes of one token's keys and values in all layers."""
    return 2 * model.num_hidden_layers * model.num_key_value_heads * model.head_dim * KV_BYTES[kv_dtype]


def workspace_bytes(model: ModelConfig, config: EngineConfig) -> int:
    """An estimate, in f32: the activations that live at once in a layer, its attention scores, and the logits."""
    tokens = max(config.prefill_chunk_size, config.max_batch_size)
    layer = tokens * (3 * model.intermediate_size + 4 * model.hidden_size)
    scores = 2 * tokens * config.context_window_size * model.num_attention_heads
    return 4 * (layer + scores + 2 * config.max_batch_size * model.vocab_size)


def predict(
    model: ModelConfig, config: EngineConfig, weights_bytes: int, workspaces: Mapping[str, Workspace] | None = None
) -> Memory:
    """Predict the bytes of a point whose cache is full; ``workspaces`` is not used, there is no formula of them."""
    per_token = kv_bytes_per_token(model, config.kv_dtype)
    cache = sum(
        len(group.layers) * min(config.context_window_size, _window(group.sliding_window_size, config))
        for group in model.layer_groups
    ) * (per_token // model.num_hidden_layers) * config.max_batch_size  # fmt: skip
    return Memory(weights_bytes, cache, per_token, workspace_bytes(model, config), _LIBRARY_BYTES)


def _window(size: int, config: EngineConfig) -> int:
    """Tokens that a layer keeps."""
    return config.context_window_size if size == -1 else size
