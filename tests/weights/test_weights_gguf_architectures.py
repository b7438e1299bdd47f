"""Every architecture's tensors: canonical names, joined rows, row order; the shape that its file says."""

from pathlib import Path

import numpy as np
import pytest

from kvscape.config import FULL, SLIDING, ModelConfig
from kvscape.errors import WeightsError
from kvscape.quantization.arrays import F32
from kvscape.weights.convert import convert
from kvscape.weights.readers.gguf import GgufSource
from tiny_architectures import (
    ARCHITECTURES,
    HEAD_DIM,
    HEADS,
    KEY_HEADS,
    LAYERS,
    architecture_tensors,
    write_architecture,
)


def halves(rows: F32, heads: int) -> F32:
    """Rows of pairs, one pair after the other, become all first and then all second halves."""
    by_head = rows.reshape(heads, HEAD_DIM, *rows.shape[1:])
    return np.concatenate([by_head[:, 0::2], by_head[:, 1::2]], 1).reshape(rows.shape)


def canonical(architecture: str, of: dict[str, F32]) -> dict[str, F32]:
    """The model's tensors as Hugging Face has them, joined as MLC-LLM does."""
    tensors = {"model.embed_tokens": of["token_embd.weight"], "model.norm": of["output_norm.weight"]}
    if "output.weight" in of:
        tensors["lm_head"] = of["output.weight"]
    for layer in range(LAYERS):
        for name, values in canonical_layer(architecture, {n[6:]: v for n, v in of.items() if f"blk.{layer}" in n}):
            tensors[f"model.layers.{layer}.{name}"] = values
    return tensors


def canonical_layer(architecture: str, of: dict[str, F32]) -> list[tuple[str, F32]]:
    layer = [
        ("input_layernorm", of["attn_norm.weight"]),
        ("self_attn.o_proj", of["attn_output.weight"]),
        ("mlp.down_proj", of["ffn_down.weight"]),
    ]
    if architecture == "phi3":
        layer += [("self_attn.qkv_proj", of["attn_qkv.weight"]), ("mlp.gate_up_proj", of["ffn_up.weight"])]
    else:
        q, k, v = (of[f"attn_{name}.weight"] for name in "qkv")
        if architecture == "llama":
            q, k = halves(q, HEADS), halves(k, KEY_HEADS)
        layer.append(("self_attn.qkv_proj", np.concatenate([q, k, v])))
        layer.append(("mlp.gate_up_proj", np.concatenate([of["ffn_gate.weight"], of["ffn_up.weight"]])))
    if architecture == "qwen2":
        layer.append(("self_attn.qkv_proj.bias", np.concatenate([of[f"attn_{name}.bias"] for name in "qkv"])))
    if architecture in ("qwen3", "gemma3"):
        layer += [(f"self_attn.{name}_norm", of[f"attn_{name}_norm.weight"]) for name in "qk"]
    if "gemma" in architecture:
        return [
            *layer,
            ("post_attention_layernorm", of["post_attention_norm.weight"]),
            ("pre_feedforward_layernorm", of["ffn_norm.weight"]),
            ("post_feedforward_layernorm", of["post_ffw_norm.weight"]),
        ]
    return [*layer, ("post_attention_layernorm", of["ffn_norm.weight"])]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_tensor_has_its_place_and_its_values(tmp_path: Path, architecture: str) -> None:
    source = GgufSource(write_architecture(tmp_path / "tiny.gguf", architecture))
    expected = canonical(architecture, architecture_tensors(architecture))
    found = {name: tensor.values() for name, tensor in source.stream()}
    assert found.keys() == expected.keys()
    assert [name for name in found if not np.array_equal(found[name], expected[name])] == []


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_shape_follows_tensors_and_architecture(tmp_path: Path, architecture: str) -> None:
    config = GgufSource(write_architecture(tmp_path / "t.gguf", architecture, {"attention.sliding_window": 64})).config
    assert config.attention_bias == (architecture == "qwen2")
    assert config.tie_word_embeddings == (architecture in ("gemma2", "gemma3", "qwen2"))
    assert sliding_layers(config) == {"gemma2": [0]}.get(architecture, [0, 1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_converted(tmp_path: Path, architecture: str) -> None:
    source = GgufSource(write_architecture(tmp_path / "tiny.gguf", architecture))
    manifest = convert(source, tmp_path / "out", "q4f16_1").manifest
    assert manifest.model == source.config
    assert all(info.format == ("f32" if len(info.shape) == 1 else "q4f16_1") for info in manifest.tensors.values())


def sliding_layers(config: ModelConfig) -> list[int]:
    kinds = config.layer_types or (SLIDING if config.sliding_window else FULL,) * LAYERS
    return [layer for layer, kind in enumerate(kinds) if kind == SLIDING]


def test_a_number_of_layers_beyond_reason_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    path = write_architecture(tmp_path / "tiny.gguf", "gemma3", {"attention.sliding_window": 64})
    key = b"gemma3.block_count\x04\0\0\0"
    path.write_bytes(path.read_bytes().replace(key + b"\x02\0\0\0", key + b"\xff\xff\xff\x7f"))
    with pytest.raises(WeightsError, match="2147483647 layers"):
        GgufSource(path)
