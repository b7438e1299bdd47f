"""The same tiny model as a GGUF file and as a Hugging Face folder: the same shape, the same tensors, the same logits.

The file is written with the gguf package, whose own table names the tensors; what llama.cpp's converter changes on the
way (rows of queries and keys, Gemma's norms, frequencies as tensors) is done here, apart from the readers.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
import pytest

from architectures import ARCHITECTURES, F32, huggingface_tensors, longrope
from kvscape import LLM
from kvscape.config import SLIDING, ModelConfig, RopeScaling
from kvscape.models.rope import rotary
from kvscape.weights.hf_config import hf_config
from kvscape.weights.sources import open_source
from tiny import write_vocabulary
from tiny_folder import write_json, write_tokenizer, write_weights

# GGUF's names of the architectures.
KINDS = MappingProxyType({name: name for name in ARCHITECTURES} | {"mistral": "llama", "gemma3_text": "gemma3"})
# What GGUF can say: Llama 3's own original length, no windows of Qwen's, queries of Gemma scaled by the head's size.
SAID: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "llama": {"rope_scaling": RopeScaling("llama3", 8.0, 8192), "rope_theta": 5e5},
        "mistral": {"sliding_window": 8},
        "qwen2": {"sliding_window": None, "layer_types": ()},
        "qwen3": {},
        "gemma2": {"query_pre_attn_scalar": 16.0, "sliding_window": 8},
        "gemma3_text": {"query_pre_attn_scalar": 16.0, "sliding_window": 8, "rope_local_base_freq": 2e4},
        "phi3": {"rope_scaling": longrope(128, factor=4.0), "sliding_window": 8},
    }
)
IDS = [5, 17, 80, 4, 260, 33, 91, 7, 7, 120, 44, 3, 3, 250, 61, 90, 12, 300, 2, 9, 41]


def shape_of(name: str) -> ModelConfig:
    return replace(ARCHITECTURES[name], vocab_size=320, eos_token_ids=(2,), **SAID[name])


def written(place: Path, config: ModelConfig) -> tuple[Path, Path]:
    """The model as a file and as a folder."""
    return write_gguf(place / "tiny.gguf", config), write_folder(place / "tiny", config)


def write_folder(folder: Path, config: ModelConfig) -> Path:
    folder.mkdir()
    write_weights(folder, {**huggingface_tensors(config)})
    write_json(folder / "config.json", hf_config(config))
    write_tokenizer(folder)
    return folder


def write_gguf(path: Path, config: ModelConfig) -> Path:
    writer = gguf.GGUFWriter(path, KINDS[config.model_type])
    write_sizes(writer, config)
    write_rope(writer, config)
    write_vocabulary(writer, config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[writer.arch.upper()], config.num_hidden_layers)
    for name, values in huggingface_tensors(config).items():
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), converted(config, name, values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_sizes(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if config.sliding_window:
        writer.add_sliding_window(config.sliding_window)
    if config.model_type == "gemma3_text":
        writer.add_sliding_window_pattern([kind == SLIDING for kind in config.layer_types])
    if config.attn_logit_softcapping and config.final_logit_softcapping:
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def write_rope(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    scaling, rotated = config.rope_scaling, int(config.head_dim * config.partial_rotary_factor)
    writer.add_rope_dimension_count(rotated)
    writer.add_rope_freq_base(config.rope_theta)
    if config.rope_local_base_freq:
        writer.add_rope_freq_base_swa(config.rope_local_base_freq)
    if scaling.rope_type in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(scaling.rope_type))
        writer.add_rope_scaling_factor(scaling.factor)
    if original := scaling.original_max_position_embeddings or 0:
        writer.add_rope_scaling_orig_ctx_len(original)
    if scaling.rope_type == "llama3":
        turns = original / (2 * math.pi * config.rope_theta ** (np.arange(0, rotated, 2) / rotated))
        kept = np.clip((turns - 1) / (4 - 1), 0, 1)
        writer.add_tensor("rope_freqs.weight", (1 / ((1 - kept) / scaling.factor + kept)).astype(np.float32))
    if scaling.rope_type == "longrope":
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scaling.factor) / math.log(original)))
        writer.add_tensor("rope_factors_short.weight", np.array(scaling.short_factor, np.float32))
        writer.add_tensor("rope_factors_long.weight", np.array(scaling.long_factor, np.float32))


def converted(config: ModelConfig, name: str, values: F32) -> F32:
    """Rotated halves of a head become pairs, in what GGUF calls llama; Gemma's norms become what multiplies."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2], 0)
    if heads and KINDS[config.model_type] == "llama":
        return values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    return values + 1 if config.model_type.startswith("gemma") and name.endswith("norm.weight") else values


@pytest.mark.parametrize("name", KINDS)
def test_shape_and_tensors_are_the_same(name: str, tmp_path: Path) -> None:
    """No field is left out. Longrope's factor of cosines and sines, in GGUF a rounded number, is compared by value."""
    config = shape_of(name)
    file, folder = (open_source(path) for path in written(tmp_path, config))
    assert unscaled(file.config) == unscaled(folder.config) == config
    for group in config.layer_groups:
        assert rotary(file.config, group).factor == pytest.approx(rotary(folder.config, group).factor, rel=1e-7)
    tensors = {name: tensor.values() for name, tensor in file.stream()}
    expected = {name: tensor.values() for name, tensor in folder.stream()}
    assert tensors.keys() == expected.keys()
    assert [name for name in expected if not np.array_equal(tensors[name], expected[name])] == []


def unscaled(config: ModelConfig) -> ModelConfig:
    return replace(config, rope_scaling=replace(config.rope_scaling, attention_factor=None))


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_every_token_has_the_same_probability(name: str, tmp_path: Path, open_llm: Callable[..., LLM]) -> None:
    """The library compiled for the file runs the folder's weights: it is refused for another shape or format."""
    file, folder = written(tmp_path, shape_of(name))
    with open_llm(file, quantization="q0f32", kv_dtype="f32") as llm:
        expected = llm.score(IDS)
        (library,) = (llm.artifact.folder / "lib").glob("*.tar")
    with open_llm(folder, quantization="q0f32", kv_dtype="f32", model_lib=library) as llm:
        np.testing.assert_allclose(llm.score(IDS), expected, rtol=0, atol=1e-6)
