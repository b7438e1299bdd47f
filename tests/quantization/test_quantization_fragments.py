"""The layout of tensor cores: each code lies where the kernels look for it."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest

from kvscape.errors import UnsupportedModelError
from kvscape.quantization.arrays import Array
from kvscape.quantization.decode import decode
from kvscape.quantization.encode import encode
from kvscape.quantization.format import FORMATS, Format
from kvscape.quantization.layouts import LAYOUTS
from kvscape.quantization.layouts.fragments import FragmentLayout, chunks, group_size, loads

# Codes of a pair: how many pairs a word has, and the bits of a code.
PAIRS = {3: 5, 4: 4, 8: 2, 16: 1, 32: 1}


def stored(packed: Mapping[str, Array], fmt: Format, K: int, row: int, column: int) -> float:
    """What a kernel finds for one weight, told apart from how it was packed."""
    group, inside = divmod(column, group_size(fmt))
    lane, upper = row % 8 * 4 + group % 4, row % 16 // 8
    unit = row // 16 * chunks(fmt, K) + group // 4
    pair, second = divmod(inside, 2)
    load, rest = divmod(pair, 4 * PAIRS[fmt.bits])
    word, place = divmod(rest, PAIRS[fmt.bits])
    words = packed["codes"].view(np.uint32).reshape(-1, loads(fmt), 2, 32, 4)
    bits = int(words[unit, load, upper, lane, word])
    if fmt.is_float:
        return float(np.array([bits >> 16 * second & 0xFFFF], np.uint16).view(np.float16)[0])
    code = bits >> (8 * (2 * place + second) if fmt.bits == 8 else fmt.bits * place + 16 * second)
    constants = packed["scales"].astype(np.float64).reshape(-1, len(fmt.constants), 32, 2)[unit, :, lane, upper]
    code &= (1 << fmt.bits) - 1
    return float(code * constants[0] + constants[1] if not fmt.symmetric else (code - fmt.max_int) * constants[0])


def packed(name: str, N: int, K: int) -> tuple[dict[str, Array], npt.NDArray[np.float32]]:
    fmt = FORMATS[name]
    weight = np.random.default_rng(0).standard_normal((N, K)).astype(np.float32)
    if fmt.is_float:
        floats = weight.astype(f"float{fmt.bits}")
        return FragmentLayout().pack({"weight": floats}, fmt), floats.astype(np.float32)
    arrays = encode(weight, fmt)
    return FragmentLayout().pack(arrays, fmt), decode(arrays, fmt)[:, :K]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("K", [128, 200])
def test_every_weight_is_where_the_kernels_look(name: str, K: int) -> None:
    arrays, weight = packed(name, 32, K)
    found = [[stored(arrays, FORMATS[name], K, row, column) for column in range(K)] for row in (0, 7, 8, 21, 31)]
    rounded = 2**-11 if "f32" in name else 1e-6
    np.testing.assert_allclose(found, weight[[0, 7, 8, 21, 31]], rtol=rounded)


@pytest.mark.parametrize("name", FORMATS)
def test_shapes_are_those_of_what_is_packed(name: str) -> None:
    arrays, _ = packed(name, 48, 200)
    assert {key: (array.shape, str(array.dtype)) for key, array in arrays.items()} == FragmentLayout().shapes(
        FORMATS[name], 48, 200
    )


def test_rows_may_be_packed_in_parts() -> None:
    whole, weight = packed("q4f16_1", 32, 128)
    arrays = encode(weight, FORMATS["q4f16_1"])
    parts = [
        FragmentLayout().pack({key: array[rows] for key, array in arrays.items()}, FORMATS["q4f16_1"])
        for rows in (slice(0, 16), slice(16, 32))
    ]
    assert all(np.array_equal(np.concatenate([part[key] for part in parts]), array) for key, array in whole.items())


def test_what_fills_up_a_row_weighs_nothing() -> None:
    arrays, _ = packed("q4af16_1", 16, 40)
    rest = [stored(arrays, FORMATS["q4af16_1"], 40, 3, column) for column in range(64, 128)]
    assert not any(rest)


@pytest.mark.parametrize(("N", "K"), [(24, 128), (16, 12)])
def test_what_the_kernels_lack_is_refused(N: int, K: int) -> None:
    with pytest.raises(UnsupportedModelError, match="the CUDA kernels take"):
        LAYOUTS["fragments"].shapes(FORMATS["f16"], N, K)


@pytest.mark.parametrize("name", ["f32", "q4f32_1"])
def test_numbers_that_are_no_f16_are_refused(name: str) -> None:
    weight = np.full((16, 128), 6e5, np.float32)
    arrays = {"weight": weight} if name == "f32" else encode(weight, FORMATS[name])
    with pytest.raises(UnsupportedModelError, match=r"^weights beyond 65504: .* f16 numbers; use --device cpu$"):
        FragmentLayout().pack(arrays, FORMATS[name])
