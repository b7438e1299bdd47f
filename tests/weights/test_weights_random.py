"""Weights that are made up: the same for the same name, in whatever pieces they are asked for."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvscape.errors import HubError
from kvscape.models.registry import check_model
from kvscape.quantization.layouts import LAYOUTS
from kvscape.tokenizer import Tokenizer
from kvscape.weights.convert import convert
from kvscape.weights.pack import pack_weights
from kvscape.weights.readers.random import RandomSource, RandomTensor
from kvscape.weights.readers.shapes import SHAPES


@given(first=st.integers(0, 300), count=st.integers(1, 200))
def test_any_rows_are_the_same_rows(first: int, count: int) -> None:
    whole = RandomTensor("w", 1, (500, 700))
    assert (whole.part(slice(first, first + count)).values() == whole.values()[first : first + count]).all()
    inner = whole.part(slice(50, 450)).part(slice(first, 400))
    assert (inner.values() == whole.values()[50 + first : 450]).all()


def test_values_are_normal_and_f16() -> None:
    tensor = RandomTensor("w", 1, (1000, 400))
    values = tensor.values()
    assert values.std() == pytest.approx(1 / 20, rel=0.01) and abs(values.mean()) < 1e-3
    assert (tensor.kept()["weight"].astype(np.float32) == values).all()
    assert len(np.unique(values, axis=0)) == 1000


@pytest.mark.parametrize("other", [RandomTensor("w", 2, (9, 64)), RandomTensor("v", 1, (9, 64))])
def test_seed_and_name_make_others(other: RandomTensor) -> None:
    assert not (other.values() == RandomTensor("w", 1, (9, 64)).values()).any(axis=1).all()
    assert other.values().tolist() == other.values().tolist()


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_can_run_and_be_packed(name: str) -> None:
    source = RandomSource(f"random://{name}?layers=1")
    check_model(source.config)
    for _, tensor in source.stream():
        if len(tensor.shape) == 2:
            LAYOUTS["rows16"].shapes(tensor.format, *tensor.shape)
    assert source.config.num_hidden_layers == 1 and len(source.config.layer_types) in (0, 1)


# Billions of weights that each model's publisher counts.
PUBLISHED = {
    "smollm2-135m": 0.1345,
    "smollm2-360m": 0.3618,
    "smollm2-1.7b": 1.711,
    "tinyllama-1.1b": 1.1,
    "llama-2-7b": 6.738,
    "llama-3-8b": 8.03,
    "llama-3.1-8b": 8.03,
    "llama-3.2-1b": 1.236,
    "llama-3.2-3b": 3.213,
    "mistral-7b": 7.248,
    "qwen2.5-0.5b": 0.494,
    "qwen2.5-1.5b": 1.544,
    "qwen2.5-7b": 7.616,
    "qwen3-0.6b": 0.596,
    "gemma-2-2b": 2.614,
    "gemma-3-1b": 1.0,
    "phi-3-mini-4k": 3.82,
}


def test_known_sizes() -> None:
    weights = {name: RandomSource(f"random://{name}").nbytes / 2e9 for name in SHAPES}
    assert SHAPES.keys() - PUBLISHED.keys() == {"tiny"}
    for name, billions in PUBLISHED.items():
        assert weights[name] == pytest.approx(billions, rel=2e-3), name


def test_a_made_up_model_is_converted_and_packed(tmp_path: Path) -> None:
    source = RandomSource("random://tiny?seed=3")
    artifact = convert(source, tmp_path / "out", "q4f16_1")
    pack_weights(artifact, LAYOUTS["rows8"])
    again = convert(RandomSource("random://tiny?seed=3"), tmp_path / "again", "q4f16_1")
    assert again.canonical_weights.read_bytes() == artifact.canonical_weights.read_bytes()
    tokenizer = Tokenizer.from_file(artifact.tokenizer)
    assert tokenizer.vocab_size == source.config.vocab_size
    assert tokenizer.encode("aä<1>") == [*"aä<1>".encode()]
    assert tokenizer.decode(tokenizer.encode("aä 🙂")) == "aä 🙂"


def test_the_name_decides_the_key() -> None:
    names = ("random://tiny", "random://tiny?seed=1", "random://tiny?layers=1", "random://smollm2-135m")
    assert len({RandomSource(name).sha256 for name in names}) == 4
    assert RandomSource("random://tiny?seed=0").sha256 == RandomSource("random://tiny").sha256


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("random://llama-3-9b", "did you mean 'llama-3-8b'"),
        ("random://", "choose one of gemma-2-2b, "),
        ("random://tiny?sed=1", "'sed' is no option; did you mean 'seed'"),
        ("random://tiny?seed=-1", "seed is '-1'; give a whole number"),
        ("random://tiny?seed=", "seed is ''; give"),
        ("random://tiny?layers=0", "tiny has 2 layers; give layers from 1 to 2"),
        ("random://tiny?layers=3", "tiny has 2 layers"),
    ],
)
def test_a_wrong_name_is_one_clear_line(name: str, match: str) -> None:
    with pytest.raises(HubError, match=match.replace("?", r"\?")):
        RandomSource(name)
