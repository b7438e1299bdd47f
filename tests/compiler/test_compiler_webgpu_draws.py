"""Tokens that WebGPU draws are those that the host draws from the same logits."""

from functools import cache
from itertools import product

import numpy as np
import pytest

from kvscape.compiler.kernels.webgpu import choices
from kvscape.engine.devices.device import Draw
from kvscape.engine.devices.webgpu.draws import draw_block
from kvscape.engine.draws import sampled
from shader_kernels import Array, ShaderKernels, needs_adapter

pytestmark = needs_adapter
V = 3001
TOP_K, TOP_P, MIN_P = (0, 1, 40, 1400, V + 5), (1.0, 0.9, 0.1), (0.0, 0.05)


@cache
def kernels() -> ShaderKernels:
    return ShaderKernels({"sample": choices.sample_function(V)})


def drawn(logits: Array, draws: list[Draw]) -> list[int]:
    shape, numbers = draw_block(draws)
    (y,) = kernels()("sample", [logits, np.array(numbers, np.int32).reshape(shape)], [((len(draws),), "int32")])
    token_ids: list[int] = y.tolist()
    return token_ids


def rows() -> Array:
    """A steep row, a flat one whose likely tokens are too many to gather, one of few numbers and both zeros."""
    rng = np.random.default_rng(0)
    steep, flat = 4 * rng.standard_normal(V), 0.1 * rng.standard_normal(V)
    ties = rng.integers(-3, 4, V) * rng.choice([-1.0, 1.0], V)
    return np.stack([steep, flat, ties]).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_they_are_the_hosts(temperature: float) -> None:
    rng = np.random.default_rng(1)
    draws = [
        Draw(row, top_k, temperature, top_p, min_p, number)
        for row, top_k, top_p, min_p in product(range(3), TOP_K, TOP_P, MIN_P)
        for number in rng.random(4)
    ]
    assert drawn(rows(), draws) == sampled(rows(), draws)


def test_the_ends_of_the_unit_interval_are_the_ends_of_what_is_kept() -> None:
    draws = [Draw(row, 40, 1.0, 0.9, 0.0, number) for row in range(3) for number in (0.0, np.nextafter(1, 0))]
    assert drawn(rows(), draws) == sampled(rows(), draws)


def test_the_likeliest_is_taken_where_nothing_is_drawn() -> None:
    logits = rows()
    logits[2] = np.nan
    greedy = drawn(logits, [Draw(row, 0, 0.0, 1.0, 0.0, 0.5) for row in (1, 0)])
    assert greedy == logits[[1, 0]].argmax(1).tolist()
    assert 0 <= drawn(logits, [Draw(2, 40, 1.0, 0.9, 0.0, 0.5)])[0] < V
    assert drawn(logits, [Draw(0, 0, 1e-30, 1.0, 0.0, 0.9)]) == [int(logits[0].argmax())]
