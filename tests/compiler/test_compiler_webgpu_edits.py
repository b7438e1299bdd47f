"""Edits of logits and log-probabilities of tokens as WebGPU makes them, against numpy."""

from functools import cache

import numpy as np
import pytest

from kvscape.compiler.kernels.webgpu import choices
from kvscape.engine.devices.device import CHANGE, Asked, Draw, Edits
from kvscape.engine.devices.edit_arrays import asked_block, edit_arrays, told
from kvscape.engine.draws import MOST, edited
from kvscape.engine.logprobs import token_logprobs
from shader_kernels import Array, ShaderKernels, needs_adapter

pytestmark = needs_adapter
V = 3001
NEVER = -1e38


@cache
def kernels() -> ShaderKernels:
    return ShaderKernels({"edit": choices.edit_function(V), "token_logprobs": choices.token_logprobs_function(V)})


def rows() -> Array:
    """Made up numbers; few different ones, with both zeros."""
    rng = np.random.default_rng(0)
    ties = rng.integers(-3, 4, V) * rng.choice([-1.0, 1.0], V)
    return np.stack([4 * rng.standard_normal(V), ties]).astype(np.float32)


def changes(number: int, positive: float, other: float, offset: float) -> Array:
    """Of so many tokens, the last one of them."""
    made = np.empty(number, CHANGE)
    made["token_id"] = V - 1 - np.random.default_rng(number).permutation(V - 1)[:number]
    made["token_id"][:1] = V - 1
    made["positive"], made["other"], made["offset"] = positive, other, offset
    return made


def some(share: float) -> Array:
    return np.random.default_rng(3).random(V) < share


def test_edits_are_the_hosts() -> None:
    """To the last bit where a product or a sum is all that is rounded."""
    edits = [
        Edits(changes(700, 1.0, 1.0, -0.7), None),
        None,
        Edits(changes(900, 0.83, 1.2, 0.0), some(0.5)),
        Edits(changes(0, 1.0, 1.0, 0.0), some(0.001)),
        Edits(changes(1, 3e38, 3e38, 0.0), None),
        Edits(changes(V - 1, 0.83, 1.2, 0.37), None),
    ]
    draws = [Draw(row % 2, 0, 0.0, 1.0, 0.0, 0.0, each) for row, each in enumerate(edits)]
    logits = rows()
    logits[0, -1] = 9
    (y,) = kernels()("edit", [logits, *edit_arrays(draws, V)], [((len(draws), V), "float32")])
    wanted = np.stack([edited(logits[one.row], one.edits) if one.edits else logits[one.row] for one in draws])
    assert wanted[4, -1] == MOST and (y[np.isneginf(wanted)] < NEVER).all()
    np.testing.assert_array_equal(np.where(y < NEVER, -np.inf, y)[:5], wanted[:5])
    np.testing.assert_allclose(y[5], wanted[5], rtol=2e-7, atol=1e-6)


@pytest.mark.parametrize("number", [0, 1, 20, 300])
def test_log_probabilities_are_the_hosts(number: int) -> None:
    asked = [Asked(row, token, number) for row, token in ((1, 0), (0, V - 1), (1, 77))]
    shape, numbers = asked_block(asked)
    inputs = [rows(), np.array(numbers, np.int32).reshape(shape)]
    (found,) = kernels()("token_logprobs", inputs, [((len(asked), 1 + 2 * number), "int32")])
    for got, wanted in zip(told(found, asked), token_logprobs(rows(), asked), strict=True):
        assert (got.token_id, [token for token, _ in got.top]) == (wanted.token_id, [token for token, _ in wanted.top])
        found_values, values = ([one.logprob, *(value for _, value in one.top)] for one in (got, wanted))
        np.testing.assert_allclose(found_values, values, atol=1e-5)
