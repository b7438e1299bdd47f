"""Whole GGUF files of a few kilobytes of every architecture, with the tensors that the gguf package says it has."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.constants import MODEL_ARCH, MODEL_TENSORS, TENSOR_NAMES

from kvscape.quantization.arrays import F32
from tiny import write_vocabulary

HIDDEN, INNER, LAYERS, HEADS, KEY_HEADS, HEAD_DIM, VOCAB = 64, 96, 2, 4, 2, 16, 320
QUERIES, KEYS = HEADS * HEAD_DIM, KEY_HEADS * HEAD_DIM
SHAPES: dict[str, tuple[int, ...]] = {
    "token_embd": (VOCAB, HIDDEN),
    "output": (VOCAB, HIDDEN),
    "attn_q": (QUERIES, HIDDEN),
    "attn_k": (KEYS, HIDDEN),
    "attn_v": (KEYS, HIDDEN),
    "attn_qkv": (QUERIES + 2 * KEYS, HIDDEN),
    "attn_output": (HIDDEN, QUERIES),
    "attn_q_norm": (HEAD_DIM,),
    "attn_k_norm": (HEAD_DIM,),
    "ffn_gate": (INNER, HIDDEN),
    "ffn_up": (INNER, HIDDEN),
    "ffn_down": (HIDDEN, INNER),
}
ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3")
# Tensors that an architecture may have and these files have not.
_OPTIONAL = ("rope_freqs", "rope_factors_long", "rope_factors_short", "attn_rot_embd", "ffn_gate_inp", "_exps")


def architecture_tensors(architecture: str, seed: int = 0) -> dict[str, F32]:
    """Random tensors by GGUF's names, from the gguf package's own table; norms and biases are f32."""
    kind = next(arch for arch in MODEL_ARCH if gguf.MODEL_ARCH_NAMES[arch] == architecture)
    patterns = [TENSOR_NAMES[tensor] for tensor in MODEL_TENSORS[kind]]
    patterns = [pattern for pattern in patterns if not pattern.endswith(_OPTIONAL)]
    if architecture == "phi3":
        patterns = [pattern for pattern in patterns if pattern[-6:] not in ("attn_q", "attn_k", "attn_v")]
    if architecture in ("gemma3", "qwen2"):
        patterns.remove("output")  # tied
    names = [p.format(bid=layer) for layer in range(LAYERS) for p in patterns if "{bid}" in p]
    names += [pattern for pattern in patterns if "{bid}" not in pattern]
    tensors = {f"{name}.weight": _random(f"{name}.weight", architecture, seed) for name in names}
    if architecture == "qwen2":
        biased = [name for name in names if name[-6:] in ("attn_q", "attn_k", "attn_v")]
        tensors |= {f"{name}.bias": _random(f"{name}.bias", architecture, seed) for name in biased}
    return tensors


def _random(name: str, architecture: str, seed: int) -> F32:
    *_, base, kind = name.split(".")
    shape = SHAPES.get(base, (HIDDEN,))
    if architecture == "phi3" and base == "ffn_up":
        shape = (2 * INNER, HIDDEN)
    values = np.random.default_rng([seed, *name.encode()]).standard_normal(shape, np.float32)
    if kind == "bias":
        return values[:, 0].copy()
    scaled = 1 + values / 10 if len(shape) == 1 else values / 8
    return scaled.astype(np.float32)


def write_architecture(path: Path, architecture: str, keys: dict[str, Any] | None = None) -> Path:
    """Write the file; ``keys`` are more keys of its metadata, without the architecture's name."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    for name, value in (keys or {}).items():
        add = writer.add_uint32 if isinstance(value, int) else writer.add_float32
        add(f"{architecture}.{name}", value)
    write_vocabulary(writer, VOCAB)
    for name, values in architecture_tensors(architecture).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
