"""Products with float activations, and gathered rows, against the weights that quantization/decode.py gives."""

from functools import cache

import numpy as np
import pytest
from built_kernels import BEST_ISA, Array, Kernels, only_where_it_runs, set_threads

from kvscape.compiler.kernels.cpu.embedding import float_embedding, quantized_embedding, take_rows
from kvscape.compiler.kernels.cpu.float_matmul import dequantized_matmul, float_matmul
from kvscape.compiler.kernels.cpu.isa import ISAS
from kvscape.quantization.decode import decode
from kvscape.quantization.encode import encode
from kvscape.quantization.format import FORMATS
from kvscape.quantization.layouts import LAYOUTS

N, K = 48, 104  # no format has groups that divide it
ROWS = ISAS[BEST_ISA].rows
CASES = [
    pytest.param(isa, name, rows, marks=only_where_it_runs(isa))
    for isa, rows in ((BEST_ISA, ROWS), ("generic", 24 - ROWS), ("neon", 8))
    for name in FORMATS
]
CASE = pytest.mark.parametrize(("isa", "name", "rows"), CASES)


@cache
def kernels(isa: str, rows: int) -> Kernels:
    functions = {"take_rows": take_rows(K)}
    for name, fmt in FORMATS.items():
        product, gather = (float_matmul, float_embedding) if fmt.is_float else (dequantized_matmul, quantized_embedding)
        functions[f"product_{name}"] = product(rows, fmt, N, K)
        functions[f"embedding_{name}"] = gather(rows, fmt, N, K)
    return Kernels(functions, isa)


def weight(name: str, magnitude: float = 1.0) -> dict[str, Array]:
    """Canonical arrays; group 1 is all zeros and the rest flat."""
    values = np.random.default_rng(0).standard_normal((N, K), np.float32) * np.float32(magnitude)
    group = FORMATS[name].group_size
    values[:, group : 2 * group] = 0
    values[:, 2 * group :] = values[:, -1:]
    return encode(values, FORMATS[name])


def decoded(name: str, arrays: dict[str, Array]) -> Array:
    return decode(arrays, FORMATS[name], K)


def packed(name: str, rows: int, arrays: dict[str, Array]) -> list[Array]:
    return list(LAYOUTS[f"rows{rows}"].pack(arrays, FORMATS[name]).values())


def product(isa: str, name: str, rows: int, arrays: dict[str, Array], x: Array) -> Array:
    (y,) = kernels(isa, rows)(f"product_{name}", [*packed(name, rows, arrays), x], [((len(x), N), "float32")])
    return y


def activations(n: int) -> Array:
    return np.random.default_rng(1).standard_normal((n, K), np.float32)


@CASE
@pytest.mark.parametrize("n", [1, 8, 19])
@pytest.mark.parametrize("magnitude", [1e-4, 1.0, 3000.0])
def test_a_product_is_that_of_the_decoded_weights(isa: str, name: str, rows: int, n: int, magnitude: float) -> None:
    arrays, x = weight(name, magnitude), activations(n)
    wide = decoded(name, arrays).astype(np.float64)
    size = np.abs(x) @ np.abs(wide).T
    assert (np.abs(product(isa, name, rows, arrays, x) - x @ wide.T) <= K * 2.0**-24 * size).all()


@CASE
def test_a_product_with_a_unit_vector_is_a_column(isa: str, name: str, rows: int) -> None:
    arrays = weight(name)
    y = product(isa, name, rows, arrays, np.eye(K, dtype=np.float32))
    np.testing.assert_array_equal(y, decoded(name, arrays).T)


@CASE
def test_a_row_does_not_depend_on_its_neighbours_or_on_threads(isa: str, name: str, rows: int) -> None:
    arrays, x = weight(name), activations(19)
    alone = np.concatenate([product(isa, name, rows, arrays, x[[row]]) for row in range(19)])
    for threads in (1, 2):
        set_threads(threads)
        for n in (3, 8, 9, 19):
            np.testing.assert_array_equal(product(isa, name, rows, arrays, x[-n:]), alone[-n:])


@CASE
def test_an_embedding_is_a_row_of_the_decoded_weights(isa: str, name: str, rows: int) -> None:
    """Every row and column: this is the round trip of pack through kernels/cpu/element.py."""
    arrays = weight(name)
    ids = np.random.default_rng(2).permutation(N).astype(np.int32)
    (y,) = kernels(isa, rows)(f"embedding_{name}", [*packed(name, rows, arrays), ids], [((N, K), "float32")])
    np.testing.assert_array_equal(y, decoded(name, arrays)[ids])


@pytest.mark.parametrize("wanted", [[], [5], [0, 0, 6, 3]])
def test_take_rows_takes_those_rows(wanted: list[int]) -> None:
    x, rows = activations(7), np.array(wanted, np.int32)
    (y,) = kernels(BEST_ISA, 8)("take_rows", [x, rows], [((len(rows), K), "float32")])
    np.testing.assert_array_equal(y, x[rows])
