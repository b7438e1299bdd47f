"""GGML's blocks against the ``gguf`` package's own quantization and dequantization."""

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize
from hypothesis import given
from hypothesis import strategies as st

from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.quantization.arrays import U8
from kvscape.quantization.decode import decode
from kvscape.quantization.ggml import GGML_TYPES, find_ggml_type, keeps_codes, kept, values

TYPES = list(GGML_TYPES)
CODED = ["Q4_0", "Q4_1", "Q8_0"]


def quantized(name: str, rows: int = 600, columns: int = 1024, seed: int = 0) -> U8:
    weight = np.random.default_rng(seed).standard_normal((rows, columns), np.float32)
    weight[0, :32] = 0
    raw: U8 = quantize(weight, gguf.GGMLQuantizationType[name]).view(np.uint8)
    return raw


def random_blocks(name: str, seed: int) -> U8:
    """Any codes, with finite scales of either sign."""
    random = np.random.default_rng(seed)
    raw = random.integers(0, 256, (3, 2, GGML_TYPES[name].block_bytes), np.uint8)
    constants = random.uniform(-60, 60, (3, 2, 2)).astype("<f2").view(np.uint8)
    raw[..., : 4 if name == "Q4_1" else 2] = constants[..., : 4 if name == "Q4_1" else 2]
    if name == "Q8_0":
        raw[..., 2:][raw[..., 2:] == 0x80] = 0
    return raw.reshape(3, -1)


def test_block_sizes_are_ggmls() -> None:
    for kind in GGML_TYPES.values():
        number = gguf.GGMLQuantizationType[kind.name]
        assert (kind.number, (kind.block_size, kind.block_bytes)) == (int(number), gguf.GGML_QUANT_SIZES[number])


@pytest.mark.parametrize("name", TYPES)
def test_values_equal_ggmls_bit_for_bit(name: str) -> None:
    raw = quantized(name)
    assert (values(raw, GGML_TYPES[name]) == dequantize(raw, gguf.GGMLQuantizationType[name])).all()


@pytest.mark.parametrize("name", TYPES)
def test_kept_arrays_decode_to_the_same_values(name: str) -> None:
    raw, kind = quantized(name), GGML_TYPES[name]
    assert keeps_codes(raw, kind)
    assert (decode(kept(raw, kind), kind.keeps) == dequantize(raw, gguf.GGMLQuantizationType[name])).all()


@pytest.mark.parametrize("name", CODED)
@given(seed=st.integers(0, 10_000))
def test_any_block_is_kept_exactly(name: str, seed: int) -> None:
    raw, kind = random_blocks(name, seed), GGML_TYPES[name]
    reference = dequantize(raw, gguf.GGMLQuantizationType[name])
    assert (decode(kept(raw, kind), kind.keeps) == reference).all()
    assert (values(raw, kind) == reference).all()


def test_only_blocks_with_the_lowest_code_are_rounded() -> None:
    raw, kind = quantized("Q8_0", 4, 96), GGML_TYPES["Q8_0"]
    raw[2, 34 + 2 + 5] = 0x80
    assert not keeps_codes(raw, kind)
    difference = np.abs(decode(kept(raw, kind), kind.keeps) - values(raw, kind))
    assert (difference[2, 32:64] > 0).any()
    step = np.abs(values(raw, kind)[2, 32:64]).max() / 127
    assert difference[2, 32:64].max() <= step * 0.6
    difference[2, 32:64] = 0
    assert not difference.any()


@pytest.mark.parametrize("name", CODED)
def test_a_scale_that_is_not_finite_is_damage(name: str) -> None:
    raw = quantized(name, 2, 32)
    raw[0, :2] = np.array([np.nan], "<f2").view(np.uint8)
    with pytest.raises(WeightsError, match=r"scale is not finite.*damaged"):
        kept(raw, GGML_TYPES[name])


def test_a_minimum_beyond_f16_is_damage() -> None:
    raw = quantized("Q4_0", 1, 32)
    raw[0, :2] = np.array([60000], "<f2").view(np.uint8)
    with pytest.raises(WeightsError, match="not finite"):
        kept(raw, GGML_TYPES["Q4_0"])


def test_an_unsupported_type_lists_the_supported_ones() -> None:
    with pytest.raises(UnsupportedModelError, match=r"tensor type Q4_K is not supported.*F32, F16, Q4_0, Q4_1, Q8_0"):
        find_ggml_type("Q4_K")
