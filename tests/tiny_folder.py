"""The tiny model as a Hugging Face folder: what transformers would save, without transformers."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from kvscape.quantization.arrays import Array
from kvscape.weights.readers.gguf import GgufSource
from tiny import CHAT_TEMPLATE, TinyShape, write_tiny_gguf

DTYPES: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


def tiny_config(shape: TinyShape | None = None, **more: Any) -> dict[str, Any]:
    shape = shape or TinyShape()
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_key_value_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab_size,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": shape.context_length,
        "tie_word_embeddings": shape.tied,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }


def tiny_tensors(shape: TinyShape | None = None, dtype: str = "BF16", seed: int = 0) -> dict[str, Array]:
    """Random weights by Hugging Face's names."""
    shape = shape or TinyShape()
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries, keys = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens": (shape.vocab_size, hidden), "model.norm": (hidden,)}
    for layer in range(shape.num_hidden_layers):
        layer_shapes: dict[str, tuple[int, ...]] = {
            "self_attn.q_proj": (queries, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, queries),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
        }
        shapes |= {f"model.layers.{layer}.{name}": size for name, size in layer_shapes.items()}
    if not shape.tied:
        shapes["lm_head"] = (shape.vocab_size, hidden)
    random = np.random.default_rng(seed)
    return {f"{name}.weight": _values(random, size).astype(DTYPES[dtype]) for name, size in shapes.items()}


def _values(random: np.random.Generator, size: tuple[int, ...]) -> Array:
    values = random.standard_normal(size)
    return 1 + 0.1 * values if len(size) == 1 else values / np.sqrt(size[-1])


def write_tiny_folder(
    folder: Path, *, dtype: str = "BF16", shape: TinyShape | None = None, shards: int = 1, **config: Any
) -> Path:
    """Write the folder and return it; ``config`` replaces what config.json says."""
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder, tiny_tensors(shape, dtype), shards)
    write_json(folder / "config.json", tiny_config(shape, **config))
    write_json(folder / "generation_config.json", {"eos_token_id": [2, 0]})
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    with TemporaryDirectory() as place:
        tokenizer_json = GgufSource(write_tiny_gguf(Path(place) / "tiny.gguf")).tokenizer_json
    (folder / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    tokens = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "add_bos_token": False}
    write_json(folder / "tokenizer_config.json", {**tokens, "chat_template": CHAT_TEMPLATE})


def write_weights(folder: Path, tensors: dict[str, Array], shards: int = 1) -> None:
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return
    names, places = list(tensors), dict[str, str]()
    for shard in range(shards):
        own, file = names[shard::shards], f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        save_file({name: tensors[name] for name in own}, folder / file)
        places |= dict.fromkeys(own, file)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
