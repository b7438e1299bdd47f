"""Products of WebGPU against float64, for every format, few and many tokens; parts of a large weight."""

from functools import cache

import numpy as np
import pytest

from kvscape.artifact import shaders
from kvscape.compiler.kernels.webgpu.linear import embedding_function, linear_function
from kvscape.quantization.decode import decode
from kvscape.quantization.encode import encode
from kvscape.quantization.format import FORMATS
from kvscape.quantization.layouts.words import WordLayout
from shader_kernels import Array, ShaderKernels, error, needs_adapter

pytestmark = needs_adapter
N, K = 96, 1100  # neither whole tiles nor whole groups, and of most formats two groups in a range
TOKENS = (1, 3, 5, 17, 70)


@cache
def kernels() -> ShaderKernels:
    functions = {f"linear {name}": linear_function(fmt, N, K) for name, fmt in FORMATS.items()}
    return ShaderKernels(functions | {f"rows {name}": embedding_function(fmt, N, K) for name, fmt in FORMATS.items()})


def weight(name: str, rows: int = N) -> tuple[list[Array], Array]:
    """Packed arrays, and the numbers they stand for."""
    fmt = FORMATS[name]
    values = np.random.default_rng(0).standard_normal((rows, K)).astype(np.float32) * 0.05 + 0.01
    arrays = encode(values, fmt)
    return list(WordLayout().pack(arrays, fmt).values()), decode(arrays, fmt, K).astype(np.float64)


@pytest.mark.parametrize("name", FORMATS)
def test_products_are_right_and_do_not_depend_on_how_many_tokens_there_are(name: str) -> None:
    packed, reference = weight(name)
    x = np.random.default_rng(1).standard_normal((max(TOKENS), K)).astype(np.float32)
    tokens = TOKENS if name == "q4af16_1" else TOKENS[::4]
    found = [kernels()(f"linear {name}", [*packed, x[:n]], [((n, N), "float32")])[0] for n in tokens]
    assert max(error(y, x[: len(y)] @ reference.T) for y in found) < 2e-6
    for y in found:
        np.testing.assert_array_equal(y, found[-1][: len(y)])


@pytest.mark.parametrize("name", FORMATS)
def test_rows_of_a_weight(name: str) -> None:
    packed, reference = weight(name)
    ids = np.array([95, 0, 17, 17, 64], np.int32)
    (y,) = kernels()(f"rows {name}", [*packed, ids], [((5, K), "float32")])
    np.testing.assert_allclose(y, reference[ids], rtol=1e-5, atol=1e-6)


def test_a_large_weight_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    packed, reference = weight("q8f16_1")
    row_bytes, scale_bytes = (array.nbytes // len(array) for array in packed)
    monkeypatch.setattr(shaders, "PART_BYTES", 4 * row_bytes + 16)
    parts = {"linear": linear_function, "rows": embedding_function}
    cut = ShaderKernels({name: function(FORMATS["q8f16_1"], N, K) for name, function in parts.items()})
    tensors = [cut.tensor(packed[0], 4 * row_bytes), cut.tensor(packed[1], 4 * scale_bytes)]
    x = np.random.default_rng(1).standard_normal((20, K)).astype(np.float32)
    for n in (1, 20):
        (y,) = cut("linear", [*tensors, x[:n]], [((n, N), "float32")])
        assert error(y, x[:n] @ reference.T) < 2e-6
    ids = np.array([95, 0, 64, 63], np.int32)
    (y,) = cut("rows", [*tensors, ids], [((4, K), "float32")])
    np.testing.assert_allclose(y, reference[ids], rtol=1e-5, atol=1e-6)


def test_of_a_weight_that_fits_there_is_one_part() -> None:
    assert shaders.part_rows(1000, shaders.PART_BYTES) == 1000
    assert shaders.part_rows(1000, shaders.PART_BYTES + 1000) == 999
