"""The golden file of the architectures is what transformers says today, where the ``reference`` extra is installed."""

import json
from pathlib import Path

import numpy as np
import pytest

from architectures import ARCHITECTURES, TOKENS

pytest.importorskip("torch", reason="the reference extra (torch, transformers) is not installed")
pytest.importorskip("transformers", reason="the reference extra (torch, transformers) is not installed")

from reference import reference_logprobs
from reference_architectures import reference_model

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "architectures.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_golden_file_is_what_transformers_says(name: str) -> None:
    logprobs = reference_logprobs(reference_model(ARCHITECTURES[name]), TOKENS)
    np.testing.assert_allclose(logprobs, GOLDEN["architectures"][name]["logprobs"], rtol=1e-4, atol=1e-4)


def test_a_short_text_has_longropes_short_frequencies() -> None:
    text = TOKENS[: len(GOLDEN["short"]) + 1]
    logprobs = reference_logprobs(reference_model(ARCHITECTURES["phi3"]), text)
    np.testing.assert_allclose(logprobs, GOLDEN["short"], rtol=1e-4, atol=1e-4)
