import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize

from ggml_blocks import random_blocks
from kvscape.quantization.arrays import F32, U8
from kvscape.quantization.decode import decode
from kvscape.quantization.format import FORMATS
from kvscape.quantization.ggml import GGML_TYPES
from kvscape.weights.ggml_tensor import GgmlTensor, Rows

KEPT = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")


def random(rows: int, columns: int = 256, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal((rows, columns), np.float32)


def blocks(weight: F32, name: str) -> U8:
    """Rows in GGML's type, as close to ``weight`` as the gguf package can write them."""
    if name in KEPT:
        raw: U8 = quantize(weight, gguf.GGMLQuantizationType[name]).view(np.uint8).reshape(len(weight), -1)
        return raw
    seeds = [int(abs(row[0]) * 1e6) for row in weight]  # the same row, the same blocks
    return np.concatenate([random_blocks(name, 1, weight.shape[1], seed) for seed in seeds])


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
    tensor = GgmlTensor((14, 256), [rows(part, name) for part in parts])
    expected = np.concatenate([seen(part, name) for part in parts])
    assert tensor.format == GGML_TYPES[name].keeps
    assert not tensor.is_exact or (decode(tensor.kept(), tensor.format) == expected).all()
    assert name not in ("F32", "F16", "Q4_0", "Q4_1", "Q5_0", "IQ4_NL") or tensor.is_exact
    assert (tensor.values() == expected).all()


@pytest.mark.parametrize("name", list(GGML_TYPES))
def test_ggufs_row_order_is_undone_codes_included(name: str) -> None:
    weight = random(32)
    tensor = GgmlTensor((32, 256), [rows(llama_cpp_permute(weight, heads=2), name, rotary_heads=2)])
    straight = GgmlTensor((32, 256), [rows(weight, name)])
    assert (tensor.values() == seen(weight, name)).all()
    assert all((array == straight.kept()[part]).all() for part, array in tensor.kept().items())


@pytest.mark.parametrize("name", list(GGML_TYPES))
@pytest.mark.parametrize("part", [slice(0, 5), slice(5, 33), slice(31, 49), slice(40, 64), slice(None)])
def test_a_part_is_the_same_rows(name: str, part: slice) -> None:
    tensor = GgmlTensor(
        (64, 256), [rows(random(32), name, 2), rows(random(16), name, 1), rows(random(16, seed=1), name)]
    )
    assert tensor.part(part).format == tensor.format
    assert (tensor.part(part).values() == tensor.values()[part]).all()
    assert all((array == tensor.kept()[key][part]).all() for key, array in tensor.part(part).kept().items())


def test_bfloat16_beyond_f16_anywhere_makes_the_whole_tensor_f32() -> None:
    weight = random(8)
    weight[6, 3] = 1e6
    tensor = GgmlTensor((16, 256), [rows(random(8), "BF16"), rows(weight, "BF16")])
    assert tensor.format == tensor.part(slice(0, 8)).format == FORMATS["f32"]
    assert tensor.part(slice(0, 8)).kept()["weight"].dtype == np.float32


def test_biases_are_joined_value_by_value() -> None:
    parts = [random(1, 64).reshape(-1, 1), random(1, 32, seed=1).reshape(-1, 1)]
    tensor = GgmlTensor((96,), [rows(part, "F32") for part in parts])
    assert (tensor.kept()["weight"] == np.concatenate(parts).ravel()).all()
    assert (tensor.part(slice(60, 70)).values() == np.concatenate(parts).ravel()[60:70]).all()


def test_rows_of_two_types_take_the_more_precise_format() -> None:
    coarse, fine = random(8), random(4, seed=1)
    tensor = GgmlTensor((12, 256), [rows(coarse, "Q4_1"), rows(fine, "Q8_0")])
    assert tensor.format.name == "q8f16_1" and not tensor.is_exact
    stored = decode(tensor.kept(), tensor.format)
    assert (stored[8:] == seen(fine, "Q8_0")).all()
    error = np.abs(stored[:8] - seen(coarse, "Q4_1")).max()
    assert 0 < error <= np.abs(seen(coarse, "Q4_1")).max() / 127


def test_a_norm_keeps_its_one_dimension() -> None:
    norm = random(1)
    tensor = GgmlTensor((256,), [rows(norm.reshape(-1, 1), "F32")])
    assert tensor.kept()["weight"].shape == tensor.values().shape == (256,)
    assert (tensor.values() == norm[0]).all()


def test_a_q8_0_tensor_with_the_lowest_code_is_not_exact() -> None:
    raw = blocks(random(4), "Q8_0")
    assert GgmlTensor((4, 256), [Rows(raw, GGML_TYPES["Q8_0"])]).is_exact
    raw[1, 5] = 0x80
    assert not GgmlTensor((4, 256), [Rows(raw, GGML_TYPES["Q8_0"])]).is_exact
