"""Sampling parameters that make no sense are turned away."""

import math
from typing import Any

import pytest

from kvscape.engine import SamplingParams
from kvscape.errors import ConfigError


def test_the_defaults_are_greedy() -> None:
    params = SamplingParams()
    assert (params.max_tokens, params.temperature, params.is_plain) == (128, 0.0, True)


@pytest.mark.parametrize(
    "fields", [{"logprobs": 0}, {"presence_penalty": -0.5}, {"logit_bias": ((1, 2.0),)}, {"temperature": 0.1}]
)
def test_some_want_more_than_the_likeliest_token(fields: dict[str, Any]) -> None:
    assert not SamplingParams(**fields).is_plain


def test_what_shapes_a_distribution_does_nothing_where_none_is_drawn_from() -> None:
    assert SamplingParams(top_k=40, top_p=0.95, min_p=0.05, seed=1, n=2, max_tokens=5).is_plain


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("max_tokens", -1, "at least 0"),
        ("temperature", -0.1, "at least 0"),
        ("temperature", math.nan, "at least 0"),
        ("temperature", math.inf, "at least 0"),
        ("top_k", -1, "at least 0"),
        ("top_p", 0.0, "above 0 and at most 1"),
        ("top_p", 1.1, "above 0 and at most 1"),
        ("min_p", 1.1, "at least 0 and at most 1"),
        ("repetition_penalty", 0.0, "above 0"),
        ("presence_penalty", 2.1, "at least -2 and at most 2"),
        ("frequency_penalty", -2.1, "at least -2 and at most 2"),
        ("seed", 2**64, "at least 0"),
        ("logprobs", -1, "at least 0"),
        ("n", 0, "at least 1"),
        ("stop", ("",), "non-empty"),
        ("stop", "END", "tuple"),
    ],
)
def test_values_out_of_range_are_turned_away(name: str, value: object, why: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} = .*: it must be .*{why}"):
        SamplingParams(**{name: value})  # type: ignore[arg-type]
