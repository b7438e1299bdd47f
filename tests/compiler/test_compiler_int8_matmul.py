"""Integer products against exact sums, on every instruction set, at the values where 16-bit sums would overflow."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from built_kernels import RUNNABLE_ISAS, Array, Kernels, compiled, set_threads
from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.int8_matmul import int8_matmul
from kvscape.compiler.kernels.cpu.isa import ISAS, Generic, Isa, Neon, Vnni
from kvscape.compiler.kernels.cpu.vector import Expr
from kvscape.quantization.codes import pack_codes, unpack_codes
from kvscape.quantization.format import FORMATS, Format
from kvscape.quantization.layouts import LAYOUTS

N = 48


@dataclass(frozen=True)
class Case:
    """A format, and columns that its groups divide or do not."""

    name: str
    K: int

    def __str__(self) -> str:
        return f"{self.name}_{self.K}"

    @property
    def format(self) -> Format:
        return FORMATS[self.name]

    @property
    def top_code(self) -> int:
        return self.format.top_code

    @property
    def groups(self) -> int:
        return self.format.groups(self.K)

    @property
    def columns(self) -> int:
        """Those of whole groups."""
        return self.format.padded(self.K)


CODED = [name for name, fmt in FORMATS.items() if not fmt.is_float]
TAILS = [Case(name, 104) for name in CODED]
WHOLE = [Case("q4af16_1", 160), Case("q3f16_1", 160)]
EVERY_CASE = pytest.mark.parametrize("case", [*WHOLE, *TAILS], ids=str)
# A kernel's code is the same with a tail as without one.
CASE = pytest.mark.parametrize("case", TAILS, ids=str)


def add_products(total: Expr, weight: Expr, x: Expr, rows: int) -> Expr:
    """What vpdpbusd and sdot do, spelt out, so that layout and offsets around them are tested on any processor."""
    products = T.cast(weight, f"int32x{4 * rows}") * T.cast(x, f"int32x{4 * rows}")
    parts = [T.Shuffle([products], [T.int32(4 * row + i) for row in range(rows)]) for i in range(4)]
    return total + ((parts[0] + parts[1]) + (parts[2] + parts[3]))


class PlainVnni(Vnni):
    def _accumulate(self, total: Expr, unsigned: Expr, signed: Expr) -> Expr:
        return add_products(total, unsigned, signed, self.rows)


class PlainNeon(Neon):
    @staticmethod
    def _accumulate(total: Expr, weight: Expr, x: Expr) -> Expr:
        return add_products(total, weight, x, 4)


PLAIN: dict[str, Isa] = {
    "plain avx512vnni": PlainVnni("avx512vnni", 16),
    "plain avxvnni": PlainVnni("avxvnni", 8),
    "plain neon": PlainNeon(),
}


@cache
def kernels(isa: str) -> tuple[Isa, Kernels]:
    chosen = PLAIN[isa] if isa in PLAIN else ISAS[isa]
    functions = {str(case): int8_matmul(chosen, case.format, N, case.K) for case in (*WHOLE, *TAILS)}
    return chosen, Kernels(functions, "generic" if isa in PLAIN else isa)


def codes(case: Case, seed: int = 0) -> Array:
    """Any code stands behind the last column: it must count for nothing."""
    return np.random.default_rng(seed).integers(0, case.top_code + 1, (N, case.columns), np.uint8)


def activations(case: Case, n: int, seed: int = 1) -> Array:
    x = np.random.default_rng(seed).integers(-127, 128, (n, case.columns), np.int8)
    x[:, case.K :] = 0
    return x


def weight_arrays(fmt: Format, weight_codes: Array, scale: Array, minimum: Array) -> dict[str, Array]:
    arrays: dict[str, Array] = {"q_weight": pack_codes(weight_codes, fmt), "q_scale": scale.astype(fmt.scale_dtype)}
    return arrays if fmt.symmetric else {**arrays, "q_min": minimum.astype(fmt.scale_dtype)}


def product(isa: str, case: Case, arrays: Mapping[str, Array], x: Array, x_scale: Array) -> Array:
    """The kernel's y [n, N]."""
    chosen, built = kernels(isa)
    packed = LAYOUTS[f"rows{chosen.rows}"].pack(arrays, case.format)
    x_sum = x.reshape(len(x), case.groups, -1).sum(-1, dtype=np.int32)
    inputs = [packed["codes"], packed["scales"], x, x_scale.astype(np.float32), x_sum]
    (y,) = built(str(case), inputs, [((len(x), N), "float32")])
    return y


def reference(case: Case, arrays: Mapping[str, Array], x: Array, x_scale: Array) -> tuple[Array, Array]:
    """y [n, N] in f64, and the sum of its terms' magnitudes, which rounding errors are relative to."""
    fmt = case.format
    weight = unpack_codes(arrays["q_weight"], fmt).astype(np.int64) - (fmt.max_int if fmt.symmetric else 0)
    groups, x_groups = weight.reshape(N, case.groups, -1), x.astype(np.int64).reshape(len(x), case.groups, -1)
    dots = np.einsum("ngk,mgk->mng", groups, x_groups)
    scales = x_scale.astype(np.float32).astype(np.float64)[:, None]
    terms = dots * arrays["q_scale"].astype(np.float64) * scales
    if not fmt.symmetric:
        terms = np.stack([terms, arrays["q_min"].astype(np.float64) * scales * x_groups.sum(-1)[:, None]])
        return terms.sum((0, -1)), np.abs(terms).sum((0, -1))
    return terms.sum(-1), np.abs(terms).sum(-1)


def ones(case: Case, n: int) -> tuple[Array, Array, Array]:
    return np.ones((N, case.groups)), np.zeros((N, case.groups)), np.ones((n, case.groups))


ISA_PARAMS = [*RUNNABLE_ISAS, *PLAIN]
EXTREMES: dict[str, Any] = {
    "all 127": lambda x: np.full_like(x, 127),
    "all -127": lambda x: np.full_like(x, -127),
    "alternating": lambda x: np.where(np.arange(x.shape[1]) % 2, 127, -127).astype(np.int8) + np.zeros_like(x),
    "in runs of 16": lambda x: np.where(np.arange(x.shape[1]) // 16 % 2, 127, -127).astype(np.int8) + np.zeros_like(x),
    "all 0": np.zeros_like,
}


@pytest.mark.parametrize("isa", ISA_PARAMS)
@EVERY_CASE
@pytest.mark.parametrize("extreme", EXTREMES)
def test_extreme_codes_and_activations_are_summed_exactly(isa: str, case: Case, extreme: str) -> None:
    x, random_codes = EXTREMES[extreme](activations(case, 5)), codes(case)
    x[:, case.K :] = 0
    odd = np.arange(case.columns) % 2
    choices = [np.zeros_like(random_codes), np.full_like(random_codes, case.top_code), random_codes]
    choices.append(np.where(odd, case.top_code, 0).astype(np.uint8) + np.zeros_like(random_codes))
    scale, minimum, x_scale = ones(case, 5)
    for weight_codes in choices:
        arrays = weight_arrays(case.format, weight_codes, scale, minimum)
        np.testing.assert_array_equal(product(isa, case, arrays, x, x_scale), reference(case, arrays, x, x_scale)[0])


@pytest.mark.parametrize("isa", ISA_PARAMS)
@EVERY_CASE
def test_every_code_and_activation_counts_once(isa: str, case: Case) -> None:
    """Sums of integers below 2^24 are exact in f32, whatever their order: no column, row or group may be swapped."""
    x, (scale, minimum, x_scale) = activations(case, 9), ones(case, 9)
    arrays = weight_arrays(case.format, codes(case), scale, minimum)
    np.testing.assert_array_equal(product(isa, case, arrays, x, x_scale), reference(case, arrays, x, x_scale)[0])


@pytest.mark.parametrize("isa", ISA_PARAMS)
@CASE
@pytest.mark.parametrize("x_magnitude", [1e-30, 1.0, 1e25])
@pytest.mark.parametrize("magnitude", [6e-8, 1.0, 65504.0 / 6])
def test_scales_and_minima_of_every_magnitude(isa: str, case: Case, x_magnitude: float, magnitude: float) -> None:
    random, G = np.random.default_rng(3), case.groups
    scale, minimum = (random.standard_normal((N, G)).clip(-6, 6) * magnitude for _ in range(2))
    x, x_scale = activations(case, 4), np.abs(random.standard_normal((4, G))) * x_magnitude
    scale[::3, 1], minimum[::3, 1], x_scale[2] = 0, 0, 0
    arrays = weight_arrays(case.format, codes(case), scale, minimum)
    expected, size = reference(case, arrays, x, x_scale)
    y = product(isa, case, arrays, x, x_scale)
    assert (np.abs(y - expected) <= 2 * G * 2.0**-24 * size + 1e-44).all()
    assert not y[2].any(), "a row of zeros gives zeros"


@pytest.mark.parametrize("isa", ISA_PARAMS)
@CASE
def test_a_row_does_not_depend_on_its_neighbours_or_on_threads(isa: str, case: Case) -> None:
    random = np.random.default_rng(4)
    scale, minimum = (random.standard_normal((N, case.groups)) for _ in range(2))
    x, x_scale = activations(case, 9), random.random((9, case.groups))
    arrays = weight_arrays(case.format, codes(case), scale, minimum)
    alone = np.concatenate([product(isa, case, arrays, x[[row]], x_scale[[row]]) for row in range(9)])
    for threads in (1, 2):
        set_threads(threads)
        for n in (1, 3, 4, 5, 9):
            np.testing.assert_array_equal(product(isa, case, arrays, x[-n:], x_scale[-n:]), alone[-n:])


@CASE
@pytest.mark.parametrize(
    ("isa", "instruction"),
    [
        ("avx512vnni", r"vpdpbusd\s.*%zmm\d+"),
        ("avxvnni", r"\{vex\}\s+vpdpbusd\s.*%ymm\d+"),
        ("avx2", r"vpmaddubsw\s.*%ymm\d+"),
        ("neon", r"sdot\s+v\d+\.4s, v\d+\.16b, v\d+\.4b\[3\]"),
    ],
)
def test_every_instruction_set_compiles_to_its_own_instruction(isa: str, instruction: str, case: Case) -> None:
    asm = compiled({str(case): int8_matmul(ISAS[isa], case.format, N, case.K)}, isa).mod.inspect_source("asm")
    assert re.search(instruction, asm)


@pytest.mark.parametrize("isa", ["avxvnni", "avx2"])
def test_kernels_for_256_bits_use_no_wider_registers(isa: str) -> None:
    products = {str(case): int8_matmul(ISAS[isa], case.format, N, case.K) for case in TAILS}
    assert "zmm" not in compiled(products, isa).mod.inspect_source("asm")


def test_the_generic_instruction_set_needs_no_intrinsic_of_a_processor() -> None:
    function = int8_matmul(Generic(), FORMATS["q8f16_1"], N, 160)
    assert "x86" not in function.script()
