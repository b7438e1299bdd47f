"""What no architecture runs is refused in one line that says what it runs with."""

from dataclasses import replace
from typing import Any

import pytest

from architectures import ARCHITECTURES, SHORT, tiny
from kvscape.config import FULL, SLIDING, RopeScaling
from kvscape.errors import UnsupportedModelError
from kvscape.models import MODELS, check_model, find_model
from kvscape.models.decoder import CausalLM


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_tiny_model_may_run(name: str) -> None:
    check_model(ARCHITECTURES[name])


def test_every_architecture_has_a_class_and_a_tiny_model() -> None:
    assert MODELS.keys() == ARCHITECTURES.keys()
    for name, architecture in MODELS.items():
        found = find_model(name)
        assert found.__name__ == architecture.name and issubclass(found, CausalLM)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("llama", {"attention_bias": True}, "llama with attention_bias = True is not supported: llama runs with False"),
        ("llama", {"sliding_window": 64}, "sliding_window = 64 is not supported: llama runs with None"),
        ("llama", {"hidden_act": "relu"}, "hidden_act = relu is not supported: llama runs with silu"),
        ("qwen2", {"attention_bias": False}, "attention_bias = False is not supported: qwen2 runs with True"),
        ("qwen3", {"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5 is not supported"),
        ("gemma2", {"hidden_act": "silu"}, "gemma2 runs with gelu_pytorch_tanh"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0 is not supported"),
        ("mistral", {"layer_types": (FULL, "chunked_attention")}, "mistral runs with full_attention or sliding"),
        ("mistral", {"sliding_window": None, "layer_types": (SLIDING, FULL)}, "runs with full_attention; use"),
        ("mistral", {"layer_types": (FULL,)}, "layer_types = 1 is not supported: mistral runs with one for each of 2"),
        ("llama", {"rope_scaling": RopeScaling("dynamic", 2.0)}, "dynamic is not .* default, linear, llama3, yarn, lo"),
        ("phi3", {"rope_scaling": RopeScaling("linear", 2.0)}, "linear is not supported: phi3 runs with default, lo"),
        ("phi3", {"partial_rotary_factor": 0.45}, "runs with whole pairs of dimensions"),
        (
            "phi3",
            {"rope_scaling": RopeScaling("longrope", short_factor=SHORT, long_factor=SHORT[1:])},
            "long_factor = 5 numbers is not supported: phi3 runs with 6",
        ),
    ],
)
def test_what_does_not_run_is_refused(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        check_model(replace(ARCHITECTURES[name], **fields))


def test_an_unknown_architecture_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UnsupportedModelError, match=f"'rwkv' is not supported; supported are {', '.join(MODELS)}"):
        check_model(tiny("rwkv"))
