import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize

from kvscape.quantization.arrays import F32, U8
from kvscape.quantization.decode import decode
from kvscape.quantization.ggml import GGML_TYPES
from kvscape.weights.ggml_tensor import GgmlTensor, Rows


def random(rows: int, columns: int = 64, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal((rows, columns), np.float32)


def blocks(weight: F32, name: str) -> U8:
    raw: U8 = quantize(weight, gguf.GGMLQuantizationType[name]).view(np.uint8).reshape(len(weight), -1)
    return raw


def rows(weight: F32, name: str, rotary_heads: int = 0) -> Rows:
    return Rows(blocks(weight, name), GGML_TYPES[name], rotary_heads)


def seen(weight: F32, name: str) -> F32:
    values: F32 = dequantize(blocks(weight, name), gguf.GGMLQuantizationType[name])
    return values


def llama_cpp_permute(weight: F32, heads: int) -> F32:
    """How llama.cpp's converter orders the rows of Q and K."""
    return weight.reshape(heads, 2, len(weight) // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


@pytest.mark.parametrize("name", list(GGML_TYPES))
def test_rows_of_one_type_are_joined_with_their_codes(name: str) -> None:
    parts = [random(8), random(4, seed=1), random(2, seed=2)]
    tensor = GgmlTensor((14, 64), [rows(part, name) for part in parts])
    expected = np.concatenate([seen(part, name) for part in parts])
    assert tensor.format == GGML_TYPES[name].keeps and tensor.is_exact
    assert (decode(tensor.kept(), tensor.format) == expected).all()
    assert (tensor.values() == expected).all()


@pytest.mark.parametrize("name", list(GGML_TYPES))
def test_ggufs_row_order_is_undone_codes_included(name: str) -> None:
    weight = random(32)
    tensor = GgmlTensor((32, 64), [rows(llama_cpp_permute(weight, heads=2), name, rotary_heads=2)])
    assert (decode(tensor.kept(), tensor.format) == seen(weight, name)).all()
    assert (tensor.values() == seen(weight, name)).all()


def test_rows_of_two_types_take_the_more_precise_format() -> None:
    coarse, fine = random(8), random(4, seed=1)
    tensor = GgmlTensor((12, 64), [rows(coarse, "Q4_1"), rows(fine, "Q8_0")])
    assert tensor.format.name == "q8f16_1" and not tensor.is_exact
    stored = decode(tensor.kept(), tensor.format)
    assert (stored[8:] == seen(fine, "Q8_0")).all()
    error = np.abs(stored[:8] - seen(coarse, "Q4_1")).max()
    assert 0 < error <= np.abs(seen(coarse, "Q4_1")).max() / 127


def test_a_norm_keeps_its_one_dimension() -> None:
    norm = random(1)
    tensor = GgmlTensor((64,), [rows(norm, "F32")])
    assert tensor.kept()["weight"].shape == tensor.values().shape == (64,)
    assert (tensor.values() == norm[0]).all()


def test_a_q8_0_tensor_with_the_lowest_code_is_not_exact() -> None:
    part = rows(random(4), "Q8_0")
    part.raw[1, 5] = 0x80
    assert not GgmlTensor((4, 64), [part]).is_exact
