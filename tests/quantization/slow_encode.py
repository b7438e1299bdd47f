"""A second implementation of every format, one weight at a time, with the numbers that the formulas name."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kvscape.quantization.arrays import F32, Array


@dataclass(frozen=True)
class SlowFormat:
    """``number`` is the type in which ratio and sum are rounded, ``scale`` the type of scales and minima."""

    bits: int
    group: int
    per_word: int
    scale: type[Any] = np.float16
    number: type[Any] = np.float16
    symmetric: bool = True


SLOW_FORMATS = {
    "q3f16_1": SlowFormat(3, 40, 10),
    "q4f16_1": SlowFormat(4, 32, 8),
    "q4f32_1": SlowFormat(4, 32, 8, np.float32, np.float32),
    "q8f16_1": SlowFormat(8, 32, 4, number=np.float32),
    "q8f32_1": SlowFormat(8, 32, 4, np.float32, np.float32),
    "q4af16_1": SlowFormat(4, 32, 8, number=np.float32, symmetric=False),
}


def slow_encode(weight: F32, name: str) -> dict[str, Array]:
    """The arrays of ``weight`` [N, K] in one of ``SLOW_FORMATS``."""
    fmt = SLOW_FORMATS[name]
    encode_group = _symmetric if fmt.symmetric else _asymmetric
    rows = [[encode_group(row[at : at + fmt.group], fmt) for at in range(0, len(row), fmt.group)] for row in weight]
    words = [[word for codes, _ in row for word in _words(codes, fmt)] for row in rows]
    constants = np.array([[values for _, values in row] for row in rows], fmt.scale)
    names = ("q_scale",) if fmt.symmetric else ("q_scale", "q_min")
    return {"q_weight": np.array(words, np.uint32), **{n: constants[:, :, i] for i, n in enumerate(names)}}


def slow_decode(arrays: dict[str, Array], name: str, columns: int) -> Array:
    """What the arrays mean, in f64."""
    fmt = SLOW_FORMATS[name]
    values = np.empty((len(arrays["q_weight"]), columns))
    for (row, column), _ in np.ndenumerate(values):
        group, place = divmod(column, fmt.group)
        word = int(arrays["q_weight"][row, group * (fmt.group // fmt.per_word) + place // fmt.per_word])
        code = word >> fmt.bits * (place % fmt.per_word) & 2**fmt.bits - 1
        scale = float(arrays["q_scale"][row, group])
        if fmt.symmetric:
            values[row, column] = (code - _zero(fmt)) * scale
        else:
            values[row, column] = code * scale + float(arrays["q_min"][row, group])
    return values


def _zero(fmt: SlowFormat) -> int:
    return int(2 ** (fmt.bits - 1)) - 1


def _symmetric(group: F32, fmt: SlowFormat) -> tuple[list[int], list[Any]]:
    zero = _zero(fmt)
    weights = [fmt.scale(w) for w in group]
    scale = fmt.scale(max(abs(float(w)) for w in weights) / zero)
    if scale == 0:
        return [zero] * len(group), [scale]
    sums = [fmt.number(fmt.number(w) / fmt.number(scale)) + fmt.number(zero) for w in weights]
    return [_clamp(np.rint(value), 2 * zero) for value in sums], [scale]


def _asymmetric(group: F32, fmt: SlowFormat) -> tuple[list[int], list[Any]]:
    minimum = fmt.scale(group.min())
    scale = fmt.scale((group.max() - group.min()) / np.float32(15))
    if scale == 0:
        return [0] * len(group), [scale, minimum]
    ratios = [(w - np.float32(minimum)) / np.float32(scale) for w in group]
    return [_clamp(np.rint(ratio), 15) for ratio in ratios], [scale, minimum]


def _clamp(value: Any, most: int) -> int:
    return int(min(max(value, 0), most))


def _words(codes: list[int], fmt: SlowFormat) -> list[int]:
    """Words of a whole group: where codes are missing, their bits are zeros."""
    whole = codes + [0] * (fmt.group - len(codes))
    return [
        sum(code << fmt.bits * i for i, code in enumerate(whole[at : at + fmt.per_word]))
        for at in range(0, fmt.group, fmt.per_word)
    ]
