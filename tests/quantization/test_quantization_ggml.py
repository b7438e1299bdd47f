"""GGML's blocks against the ``gguf`` package's own dequantization, and against each type's definition."""

from collections.abc import Callable

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize
from hypothesis import given
from hypothesis import strategies as st

from ggml_blocks import number, random_blocks
from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.quantization.arrays import U8
from kvscape.quantization.bfloat16 import bfloat16_format, bfloat16_values
from kvscape.quantization.decode import decode
from kvscape.quantization.ggml import GGML_TYPES, find_ggml_type, values
from kvscape.quantization.ggml_codes import keeps_codes, kept

TYPES = list(GGML_TYPES)
CODED = [name for name in TYPES if GGML_TYPES[name].constants]
EXACT = ["F32", "F16", "Q4_0", "Q4_1", "Q5_0", "IQ4_NL"]


def quantized(name: str, rows: int = 40, columns: int = 1024, seed: int = 0) -> U8:
    weight = np.random.default_rng(seed).standard_normal((rows, columns), np.float32)
    weight[0, :32] = 0
    raw: U8 = quantize(weight, number(name)).view(np.uint8)
    return raw


def test_block_sizes_are_ggmls() -> None:
    for kind in GGML_TYPES.values():
        number = gguf.GGMLQuantizationType[kind.name]
        assert (kind.number, (kind.block_size, kind.block_bytes)) == (int(number), gguf.GGML_QUANT_SIZES[number])


@pytest.mark.parametrize("name", TYPES)
@given(seed=st.integers(0, 10_000))
def test_values_equal_ggmls_bit_for_bit(name: str, seed: int) -> None:
    raw = random_blocks(name, 3, 512, seed, largest=60)
    assert (values(raw, GGML_TYPES[name]) == dequantize(raw, number(name))).all()


NL = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def f16(block: U8, at: int) -> float:
    return float(block[at : at + 2].view("<f2")[0])


def half(octets: U8, i: int) -> int:
    return int(octets[i % 16]) >> 4 * (i // 16) & 15


def fifth(bits: U8, i: int) -> int:
    return int(bits[i // 8]) >> i % 8 & 1


def pair_k4(packed: U8, j: int) -> tuple[int, int]:
    """Scale and minimum of group j of Q4_K and Q5_K."""
    p = [int(octet) for octet in packed]
    if j < 4:
        return p[j] & 63, p[j + 4] & 63
    return p[j + 4] & 15 | p[j - 4] >> 6 << 4, p[j + 4] >> 4 | p[j] >> 6 << 4


def scale_q3(packed: U8, j: int) -> int:
    low = int(packed[j % 8]) >> 4 * (j // 8) & 15
    return (low | (int(packed[8 + j % 4]) >> 2 * (j // 4) & 3) << 4) - 32


def q2_k(b: U8, i: int) -> float:
    code = int(b[16 + i // 128 * 32 + i % 32]) >> 2 * (i % 128 // 32) & 3
    scale, minimum = int(b[i // 16]) & 15, int(b[i // 16]) >> 4
    return f16(b, 80) * scale * code - f16(b, 82) * minimum


def q3_k(b: U8, i: int) -> float:
    code = (int(b[32 + i // 128 * 32 + i % 32]) >> 2 * (i % 128 // 32) & 3) + 4 * (int(b[i % 32]) >> i // 32 & 1) - 4
    return f16(b, 108) * scale_q3(b[96:108], i // 16) * code


def q4_k(b: U8, i: int) -> float:
    scale, minimum = pair_k4(b[4:16], i // 32)
    code = int(b[16 + i // 64 * 32 + i % 32]) >> 4 * (i // 32 % 2) & 15
    return f16(b, 0) * scale * code - f16(b, 2) * minimum


def q5_k(b: U8, i: int) -> float:
    scale, minimum = pair_k4(b[4:16], i // 32)
    code = int(b[48 + i // 64 * 32 + i % 32]) >> 4 * (i // 32 % 2) & 15 | (int(b[16 + i % 32]) >> i // 32 & 1) << 4
    return f16(b, 0) * scale * code - f16(b, 2) * minimum


def q6_k(b: U8, i: int) -> float:
    low = int(b[i // 128 * 64 + i % 64]) >> 4 * (i % 128 // 64) & 15
    high = int(b[128 + i // 128 * 32 + i % 32]) >> 2 * (i % 128 // 32) & 3
    return f16(b, 208) * int(b[192 + i // 16].astype(np.int8)) * ((low | high << 4) - 32)


def iq4_xs(b: U8, i: int) -> float:
    group = i // 32
    low, high = int(b[4 + group // 2]) >> 4 * (group % 2) & 15, int(b[2 + group // 4]) >> 2 * (group % 4) & 3
    return f16(b, 0) * ((low | high << 4) - 32) * NL[half(b[8 + 16 * group :], i % 32)]


DEFINITIONS: dict[str, Callable[[U8, int], float]] = {
    "Q4_0": lambda b, i: f16(b, 0) * (half(b[2:], i) - 8),
    "Q4_1": lambda b, i: f16(b, 0) * half(b[4:], i) + f16(b, 2),
    "Q5_0": lambda b, i: f16(b, 0) * ((half(b[6:], i) | fifth(b[2:], i) << 4) - 16),
    "Q5_1": lambda b, i: f16(b, 0) * (half(b[8:], i) | fifth(b[4:], i) << 4) + f16(b, 2),
    "Q8_0": lambda b, i: f16(b, 0) * int(b[2 + i].astype(np.int8)),
    "IQ4_NL": lambda b, i: f16(b, 0) * NL[half(b[2:], i)],
    "Q2_K": q2_k,
    "Q3_K": q3_k,
    "Q4_K": q4_k,
    "Q5_K": q5_k,
    "Q6_K": q6_k,
    "IQ4_XS": iq4_xs,
}


@pytest.mark.parametrize("name", CODED)
def test_a_block_is_what_its_definition_says(name: str) -> None:
    kind = GGML_TYPES[name]
    block = random_blocks(name, 1, kind.block_size, seed=3)
    defined = [DEFINITIONS[name](block[0], i) for i in range(kind.block_size)]
    assert values(block, kind)[0] == pytest.approx(np.array(defined, np.float32), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", EXACT)
@given(seed=st.integers(0, 10_000))
def test_what_our_formats_have_is_kept_exactly(name: str, seed: int) -> None:
    raw, kind = random_blocks(name, 3, 512, seed), GGML_TYPES[name]
    assert keeps_codes(raw, kind)
    assert (decode(kept(raw, kind), kind.keeps) == dequantize(raw, number(name))).all()


@pytest.mark.parametrize(("name", "beyond"), [("Q8_0", -128), ("Q3_K", 128)])
def test_only_codes_beyond_127_are_rounded(name: str, beyond: int) -> None:
    raw, kind = random_blocks(name, 16, 4096, largest=60), GGML_TYPES[name]
    exact, stored = values(raw, kind).reshape(-1, 32), decode(kept(raw, kind), kind.keeps).reshape(-1, 32)
    at = {"Q8_0": 0, "Q3_K": 108}[name]
    scales = np.repeat(raw.reshape(-1, kind.block_bytes)[:, at : at + 2].copy().view("<f2"), kind.block_size // 32)
    rounded = (exact == scales[:, None].astype(np.float32) * beyond).any(-1)
    assert rounded.any() and not rounded.all() and not keeps_codes(raw, kind)
    assert (stored[~rounded] == exact[~rounded]).all()
    steps = np.abs(exact).max(-1, keepdims=True) / 127
    assert (np.abs(stored - exact) <= 0.6 * steps)[rounded].all()


@pytest.mark.parametrize("name", ["Q5_1", "Q2_K", "Q5_K", "Q6_K", "IQ4_XS"])
def test_the_others_are_rounded_to_8_bits(name: str) -> None:
    raw, kind = random_blocks(name, 8, 1024, largest=1), GGML_TYPES[name]
    exact, stored = (v.reshape(-1, 32) for v in (values(raw, kind), decode(kept(raw, kind), kind.keeps)))
    assert kind.keeps.name == "q8f16_1" and not keeps_codes(raw, kind)
    assert (np.abs(stored - exact) <= 0.6 * np.abs(exact).max(-1, keepdims=True) / 127).all()


def test_q4_k_keeps_its_codes_and_rounds_its_constants_to_f16() -> None:
    raw, kind = random_blocks("Q4_K", 8, 1024), GGML_TYPES["Q4_K"]
    arrays = kept(raw, kind)
    exact, stored = values(raw, kind), decode(arrays, kind.keeps)
    assert kind.keeps.name == "q4af16_1" and not keeps_codes(raw, kind)
    assert 0 < np.square(stored - exact).sum() / np.square(exact).sum() < 1e-6
    nibbles = raw.reshape(-1, 144)[:, 16:]
    assert np.bincount(arrays["q_weight"].view(np.uint8).ravel() & 15, minlength=16).sum() == nibbles.size
    counts = (
        np.bincount(np.concatenate([b.ravel() & 15, b.ravel() >> 4])) for b in (nibbles, arrays["q_weight"].view("u1"))
    )
    assert (next(counts) == next(counts)).all()


@pytest.mark.parametrize(("largest", "name"), [(65280.0, "f16"), (-65280.0, "f16"), (65536.0, "f32"), (np.inf, "f32")])
def test_bfloat16_is_f16_where_f16_holds_it(largest: float, name: str) -> None:
    weight = np.array([[1.0, 2.0**-30], [largest, 3.0]], np.float32)
    bits = (weight.view("<u4") >> 16).astype("<u2")
    assert bfloat16_format([bits[:1], bits[1:]]).name == name
    assert (bfloat16_values(bits) == weight).all()


@pytest.mark.parametrize("name", CODED)
def test_a_scale_that_is_not_finite_is_damage(name: str) -> None:
    for at in GGML_TYPES[name].constants:
        raw = random_blocks(name, 2, 256)
        raw[0, at : at + 2] = np.array([np.nan], "<f2").view(np.uint8)
        for read in (kept, values):
            with pytest.raises(WeightsError, match=r"scale is not finite.*damaged"):
                read(raw, GGML_TYPES[name])


def test_a_minimum_beyond_f16_is_damage() -> None:
    raw = quantized("Q4_0", 1, 32)
    raw[0, :2] = np.array([60000], "<f2").view(np.uint8)
    with pytest.raises(WeightsError, match="not finite"):
        kept(raw, GGML_TYPES["Q4_0"])


def test_an_unsupported_type_lists_the_supported_ones() -> None:
    with pytest.raises(UnsupportedModelError, match=r"tensor type IQ1_S is not supported.*F32, F16, BF16, Q4_0, Q4_1"):
        find_ggml_type("IQ1_S")
