"""Packed arrays against the documented order, one weight at a time."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvscape.errors import UnsupportedModelError
from kvscape.quantization.arrays import U8, Array
from kvscape.quantization.codes import pack_codes, unpack_codes
from kvscape.quantization.format import FORMATS, Format
from kvscape.quantization.layouts import LAYOUTS
from kvscape.quantization.layouts.blocked import BlockedLayout

BLOCKED = [layout for layout in LAYOUTS.values() if isinstance(layout, BlockedLayout)]
CODED = [name for name, fmt in FORMATS.items() if not fmt.is_float]


def random_weight(fmt: Format, N: int, K: int, seed: int = 0) -> dict[str, Array]:
    """Canonical arrays with every code possible, and scales and minima that tell where they came from."""
    random = np.random.default_rng(seed)
    if fmt.is_float:
        return {"weight": random.standard_normal((N, K)).astype(f"float{fmt.bits}")}
    codes: U8 = random.integers(0, 2**fmt.bits - (fmt.bits == 8), (N, fmt.padded(K)), np.uint8)
    codes[:, K:] = 0
    arrays: dict[str, Array] = {"q_weight": pack_codes(codes, fmt)}
    for name in fmt.constants:
        arrays[name] = random.standard_normal((N, fmt.groups(K))).astype(fmt.scale_dtype)
    return arrays


def slow_pack(arrays: Mapping[str, Array], fmt: Format, rows: int) -> dict[str, list[float]]:
    """The order that blocked.py documents, appended element by element."""
    codes = unpack_codes(arrays["q_weight"].astype(np.uint32), fmt).astype(int)
    N, K = codes.shape
    packed: list[float] = []
    scales: list[float] = []
    for block in range(0, N, rows):
        for group in range(K // fmt.group_size):
            for step in range(8 if fmt.bits == 8 else 4):
                for row in range(block, block + rows):
                    group_codes = codes[row, group * fmt.group_size : (group + 1) * fmt.group_size]
                    packed += [slow_byte(group_codes, fmt.bits, step, i) for i in range(4)]
            for name in ("q_scale", "q_min"):
                if name in arrays:
                    scales += [float(arrays[name][row, group]) for row in range(block, block + rows)]
    return {"codes": packed, "scales": scales}


def slow_byte(codes: Array, bits: int, step: int, i: int) -> int:
    """Byte i of a step of one row's group."""
    column = 4 * step + i
    if bits == 8:
        return int(codes[column] - 127) % 256
    if bits == 4:
        return int(codes[column] + 16 * codes[column + 16])
    last, last_but_one = codes[36 + i], codes[32 + i]
    top = {0: last_but_one % 4, 1: last % 4, 2: last_but_one // 4 + last // 4 * 2, 3: 0}[step]
    return int(codes[column] + 8 * codes[column + 16] + 64 * top)


@pytest.mark.parametrize("layout", BLOCKED, ids=str)
@pytest.mark.parametrize("name", CODED)
@given(seed=st.integers(0, 9), blocks=st.integers(1, 3), groups=st.integers(1, 3))
def test_codes_and_scales_lie_in_the_documented_order(
    name: str, layout: BlockedLayout, seed: int, blocks: int, groups: int
) -> None:
    fmt = FORMATS[name]
    arrays = random_weight(fmt, blocks * layout.rows, groups * fmt.group_size, seed)
    packed = layout.pack(arrays, fmt)
    assert {key: array.tolist() for key, array in packed.items()} == slow_pack(arrays, fmt, layout.rows)


@pytest.mark.parametrize("layout", BLOCKED, ids=str)
@pytest.mark.parametrize("name", ["f32", "f16"])
def test_floats_lie_block_by_block_and_column_by_column(name: str, layout: BlockedLayout) -> None:
    fmt, rows = FORMATS[name], layout.rows
    arrays = random_weight(fmt, 2 * rows, 5)
    (weight,) = layout.pack(arrays, fmt).values()
    for (block, column, row), value in np.ndenumerate(weight):
        assert value == arrays["weight"][block * rows + row, column]


@pytest.mark.parametrize("layout", BLOCKED, ids=str)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("K", [160, 104])
def test_shapes_announce_what_pack_gives(name: str, layout: BlockedLayout, K: int) -> None:
    fmt, N = FORMATS[name], 3 * layout.rows
    packed = layout.pack(random_weight(fmt, N, K), fmt)
    assert {key: (array.shape, str(array.dtype)) for key, array in packed.items()} == layout.shapes(fmt, N, K)
    assert all(array.flags.c_contiguous for array in packed.values())


@pytest.mark.parametrize("name", FORMATS)
def test_packing_adds_no_byte(name: str) -> None:
    fmt, N, K = FORMATS[name], 32, 160
    nbytes = sum(array.nbytes for array in LAYOUTS["rows16"].pack(random_weight(fmt, N, K), fmt).values())
    assert nbytes == N * K * fmt.bits_per_weight / 8


@pytest.mark.parametrize("name", FORMATS)
def test_rows_that_fill_no_block_are_an_error(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match="a weight of 24 rows: the kernels take blocks of 16"):
        LAYOUTS["rows16"].shapes(FORMATS[name], 24, 64)
