"""A whole tiny GGUF file as a source, against the ``gguf`` package's own values."""

import hashlib
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize

from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.quantization.arrays import F32
from kvscape.quantization.decode import decode
from kvscape.tokenizer import ChatTemplate
from kvscape.weights.readers.gguf import GgufSource
from tiny import CHAT_TEMPLATE, TinyShape, write_tiny_gguf

QUANTS = ["F32", "F16", "Q4_0", "Q4_1", "Q8_0"]


def reference(path: Path) -> dict[str, F32]:
    """Every tensor of the file in f32, under GGUF's names."""
    return {t.name: dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}


def interleaved_to_halves(weight: F32, heads: int) -> F32:
    """Row 2i + j of each head goes to row i + j * head_dim / 2, one row at a time."""
    result, head_dim = np.empty_like(weight), len(weight) // heads
    for row in range(len(weight)):
        head, pair, half = row // head_dim, row % head_dim // 2, row % 2
        result[head * head_dim + half * head_dim // 2 + pair] = weight[row]
    return result


@pytest.mark.parametrize("quant", QUANTS)
def test_every_tensor_keeps_its_values(tmp_path: Path, quant: str) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", quant=quant)
    tensors, of = dict(GgufSource(path).stream()), reference(path)
    expected = {"model.embed_tokens": of["token_embd.weight"], "model.norm": of["output_norm.weight"]}
    for i in range(2):
        q, k = (interleaved_to_halves(of[f"blk.{i}.attn_{n}.weight"], h) for n, h in (("q", 4), ("k", 2)))
        expected |= {
            f"model.layers.{i}.input_layernorm": of[f"blk.{i}.attn_norm.weight"],
            f"model.layers.{i}.self_attn.qkv_proj": np.concatenate([q, k, of[f"blk.{i}.attn_v.weight"]]),
            f"model.layers.{i}.self_attn.o_proj": of[f"blk.{i}.attn_output.weight"],
            f"model.layers.{i}.post_attention_layernorm": of[f"blk.{i}.ffn_norm.weight"],
            f"model.layers.{i}.mlp.gate_up_proj": np.concatenate(
                [of[f"blk.{i}.ffn_gate.weight"], of[f"blk.{i}.ffn_up.weight"]]
            ),
            f"model.layers.{i}.mlp.down_proj": of[f"blk.{i}.ffn_down.weight"],
        }
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert tensor.shape == expected[name].shape, name
        assert (tensor.values() == expected[name]).all(), name
        assert (decode(tensor.kept(), tensor.format) == expected[name]).all(), name


def test_the_sources_facts(tiny_gguf: Path) -> None:
    source = GgufSource(tiny_gguf)
    assert source.name == "tiny.gguf"
    assert source.sha256 == hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
    assert source.chat_template == CHAT_TEMPLATE
    assert (source.config.vocab_size, source.config.tie_word_embeddings) == (320, True)


def test_a_template_for_tools_stands_beside_the_default_one(tmp_path: Path) -> None:
    source = GgufSource(write_tiny_gguf(tmp_path / "tiny.gguf"))
    named = {"tokenizer.chat_template": "plain", "tokenizer.chat_template.tool_use": "{{ tools }}"}
    source.header.metadata.update(named)
    template = ChatTemplate(source.chat_template or "")
    assert (template.render([]), template.render([], tools=[{}])) == ("plain", "[{}]")


def test_an_output_matrix_of_its_own_is_not_tied(tmp_path: Path) -> None:
    source = GgufSource(write_tiny_gguf(tmp_path / "tiny.gguf", shape=TinyShape(tied=False)))
    assert not source.config.tie_word_embeddings
    assert dict(source.stream())["lm_head"].shape == (320, 64)


def changed(path: Path, old: bytes, new: bytes, folder: Path) -> Path:
    content = path.read_bytes()
    assert len(old) == len(new) and old in content
    (folder / "changed.gguf").write_bytes(content.replace(old, new))
    return folder / "changed.gguf"


def test_missing_and_left_over_tensors_are_listed(tmp_path: Path, tiny_gguf: Path) -> None:
    path = changed(tiny_gguf, b"blk.1.ffn_up.weight", b"blk.1.ffn_no.weight", tmp_path)
    with pytest.raises(WeightsError, match=r"missing: blk\.1\.ffn_up\.weight; left over: blk\.1\.ffn_no\.weight"):
        GgufSource(path)


def test_an_unknown_architecture_names_the_known_ones(tmp_path: Path, tiny_gguf: Path) -> None:
    path = changed(tiny_gguf, b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba", tmp_path)
    with pytest.raises(UnsupportedModelError, match="'mamba' is not supported; use a model of llama"):
        GgufSource(path)


def test_an_unsupported_tensor_type_names_tensor_and_types(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", quant="F16")
    entry = b"token_embd.weight" + struct.pack("<IQQI", 2, 64, 320, 1)
    path = changed(path, entry, entry[:-4] + struct.pack("<I", int(gguf.GGMLQuantizationType.I16)), tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"tensor token_embd.*I16 is not supported.*F32, F16, BF16, Q4_0"):
        GgufSource(path)


def test_a_number_of_layers_beyond_reason_is_refused(tmp_path: Path, tiny_gguf: Path) -> None:
    key = b"llama.block_count\x04\0\0\0"
    path = changed(tiny_gguf, key + b"\x02\0\0\0", key + b"\xff\xff\xff\x7f", tmp_path)
    with pytest.raises(WeightsError, match="2147483647 layers, 20 tensors"):
        GgufSource(path)


def test_a_file_without_tokens_is_refused(tmp_path: Path, tiny_gguf: Path) -> None:
    with pytest.raises(WeightsError, match="has no tokens"):
        GgufSource(changed(tiny_gguf, b"tokenizer.ggml.tokens", b"tokenizer.ggml.tokenz", tmp_path))
