"""Penalties, biases and what a guide allows, against a reference that goes token by token."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvscape.engine import Request, RequestMetrics, SamplingParams
from kvscape.engine.devices.device import Edits, FloatArray
from kvscape.engine.draws import MOST, edited
from kvscape.engine.edits import changes
from kvscape.engine.sampler import wanted_draw
from kvscape.engine.sequence import Sequence
from kvscape.engine.tally import Tally
from kvscape.engine.text import TextStream

TOKENS = st.lists(st.integers(0, 9), max_size=12)
PENALTIES = st.floats(-2, 2)


def after(logits: FloatArray, params: SamplingParams, prompt: list[int], output: list[int]) -> FloatArray:
    counted = Tally(prompt, len(prompt)).of([*prompt, *output])
    return edited(logits, Edits(changes(params, *counted), None))


def test_penalties_by_hand() -> None:
    params = SamplingParams(repetition_penalty=2, presence_penalty=0.5, frequency_penalty=0.25)
    logits = np.array([4.0, -4.0, 4.0, 4.0, -1.0], np.float32)
    got = after(logits, params, prompt=[0, 1, 1], output=[2, 1, 2])
    np.testing.assert_array_equal(got, [4 / 2, -4 * 2 - 0.5 - 0.25, 4 / 2 - 0.5 - 2 * 0.25, 4, -1])
    np.testing.assert_array_equal(logits, [4, -4, 4, 4, -1])


def test_biases_add_up_behind_penalties() -> None:
    params = SamplingParams(repetition_penalty=2, logit_bias=((0, 2.5), (2, -1.0), (0, 1.0)))
    logits = np.array([1, 2, 3], np.float32)
    np.testing.assert_array_equal(after(logits, params, [1], [2]), [4.5, 1, 0.5])
    np.testing.assert_array_equal(logits, [1, 2, 3])


@given(TOKENS, TOKENS, st.floats(0.5, 2), PENALTIES, PENALTIES, st.dictionaries(st.integers(0, 9), PENALTIES))
def test_all_edits_token_by_token(
    prompt: list[int], output: list[int], factor: float, presence: float, frequency: float, bias: dict[int, float]
) -> None:
    params = SamplingParams(
        repetition_penalty=factor, presence_penalty=presence, frequency_penalty=frequency, logit_bias=(*bias.items(),)
    )
    logits = np.random.default_rng(len(prompt)).standard_normal(10).astype(np.float32)
    got = after(logits, params, prompt, output)
    for token in range(10):
        value = float(logits[token])
        if token in prompt + output:
            value = value / factor if value > 0 else value * factor
        value -= frequency * output.count(token) + presence * (token in output) - bias.get(token, 0)
        assert got[token] == pytest.approx(value, rel=1e-6, abs=1e-5)


def test_a_place_behind_a_draft_counts_what_was_drafted_before_it() -> None:
    request = Request("one", (5, 6), SamplingParams(frequency_penalty=1.0))
    sequence = Sequence(request, TextStream(None, ()), RequestMetrics(0.0))
    sequence.token_ids.append(7)
    sequence.draft = [7, 8]
    places = [wanted_draw(0, sequence, ahead).edits for ahead in range(3)]
    offsets = [{token: offset for token, _, _, offset in one.changes.tolist()} for one in places if one]
    assert offsets == [{7: -1}, {7: -2}, {7: -2, 8: -1}]


def test_what_is_not_allowed_cannot_come() -> None:
    params = SamplingParams(logit_bias=((1, 9.0), (2, 1.0)))
    allowed = np.array([True, False, True])
    got = edited(np.array([1, 2, 3], np.float32), Edits(changes(params, *Tally((), 0).of([])), allowed))
    np.testing.assert_array_equal(got, [1, -np.inf, 4])


@pytest.mark.parametrize(("factor", "expected"), [(1e-42, [MOST, -3e-42, 0, 1]), (1e300, [0, -MOST, 0, 1])])
def test_no_factor_makes_a_logit_infinite(factor: float, expected: list[float]) -> None:
    params = SamplingParams(repetition_penalty=factor)
    got = after(np.array([3, -3, 0, 1], np.float32), params, [0, 1, 2], [])
    np.testing.assert_allclose(got, expected, atol=1e-37)


@given(TOKENS, TOKENS, TOKENS, st.integers(0, 12))
def test_a_tally_that_grows_counts_what_a_fresh_one_counts(
    prompt: list[int], output: list[int], ahead: list[int], known: int
) -> None:
    growing, text = Tally(prompt, len(prompt)), [*prompt, *output]
    growing.of([*prompt, *output[:known]], ahead)
    token_ids, counts = growing.of(text, ahead)
    assert dict(zip(token_ids.tolist(), counts.tolist(), strict=True)) == {
        token: (output + ahead).count(token) for token in {*text, *ahead}
    }
    assert len(set(token_ids.tolist())) == len(token_ids)
