"""Frequencies of every kind of RoPE scaling, against those of transformers in the golden file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from architectures import ARCHITECTURES, ROPES, tiny
from kvscape.config import ROPE_TYPES
from kvscape.models.rope import rotary

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "architectures.json").read_text(encoding="utf-8")
)["ropes"]


@pytest.mark.parametrize("name", ROPES)
def test_frequencies_and_factor_are_those_of_transformers(name: str) -> None:
    turned = rotary(ROPES[name], ROPES[name].layer_groups[0])
    np.testing.assert_allclose(turned.frequencies, GOLDEN[name]["short"], rtol=2e-6)
    np.testing.assert_allclose(turned.long or turned.frequencies, GOLDEN[name]["long"], rtol=2e-6)
    assert turned.factor == pytest.approx(GOLDEN[name]["factor"])


def test_every_type_is_there_and_none_is_like_another() -> None:
    assert {config.rope_scaling.rope_type for config in ROPES.values()} | {"default"} == set(ROPE_TYPES)
    made = [rotary(config, config.layer_groups[0]) for config in ROPES.values()]
    assert len(set(made)) == len(made)


def test_without_scaling_they_are_powers_of_the_base() -> None:
    config = tiny("llama", head_dim=64, rope_theta=5e5)
    turned = rotary(config, config.layer_groups[0])
    np.testing.assert_allclose(turned.frequencies, 5e5 ** (-np.arange(32) / 32))
    assert (turned.dim, turned.factor, turned.long) == (64, 1.0, ())


def test_local_layers_have_their_own_base_and_no_scaling() -> None:
    config = ARCHITECTURES["gemma3_text"]
    local, everywhere = (rotary(config, group) for group in config.layer_groups)
    np.testing.assert_allclose(local.frequencies, 1e4 ** (-np.arange(8) / 8))
    np.testing.assert_allclose(everywhere.frequencies, 1e6 ** (-np.arange(8) / 8) / 8)
    same = replace(config, rope_local_base_freq=None)
    assert rotary(same, same.layer_groups[0]) == everywhere
