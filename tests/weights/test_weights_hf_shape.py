"""config.json of each model type, in the words of transformers 4 and 5."""

from typing import Any

import pytest

from kvscape.config import FULL, SLIDING, UNSCALED, ModelConfig, RopeScaling
from kvscape.errors import KvscapeError, UnsupportedModelError
from kvscape.weights.hf_config import hf_config
from kvscape.weights.hf_mapping import hf_parts, is_unread, text_name
from kvscape.weights.readers.hf_shape import DEFAULTS, model_config

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512,
}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128}
FACTORS = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
LONG = RopeScaling("longrope", 4.0, 128, short_factor=(1.0,) * 8, long_factor=(2.0,) * 8)


def read(model_type: str, **more: Any) -> ModelConfig:
    return model_config({"model_type": model_type, **SIZES, **more}, "config.json")


ROPES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "plain": ("llama", {"rope_theta": 5e5}, {"rope_theta": 5e5, "rope_scaling": UNSCALED}),
    "by default": ("qwen2", {}, {"rope_theta": 1e4}),
    "of transformers 5": (
        "llama",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        {"rope_theta": 5e5},
    ),
    "none": ("llama", {"rope_scaling": None}, {"rope_scaling": UNSCALED}),
    "linear": (
        "llama",
        {"rope_scaling": {"type": "linear", "factor": 2}},
        {"rope_scaling": RopeScaling("linear", 2.0)},
    ),
    "llama3": (
        "llama",
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        {"rope_theta": 5e5, "rope_scaling": RopeScaling("llama3", 8.0, 128)},
    ),
    "llama3 of transformers 5": (
        "llama",
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}},
        {"rope_theta": 5e5, "rope_scaling": RopeScaling("llama3", 8.0, 128)},
    ),
    "yarn": (
        "qwen2",
        {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}},
        {"rope_scaling": RopeScaling("yarn", 4.0, 128)},
    ),
    "longrope beside the length": (
        "phi3",
        {"original_max_position_embeddings": 128, "rope_scaling": {"type": "longrope", **FACTORS}},
        {"rope_scaling": LONG},
    ),
    "longrope by its first name": (
        "phi3",
        {"original_max_position_embeddings": 128, "rope_scaling": {"type": "su", **FACTORS}},
        {"rope_scaling": LONG},
    ),
    "a part": ("phi3", {"partial_rotary_factor": 0.5}, {"partial_rotary_factor": 0.5}),
    "a part of transformers 5": (
        "phi3",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        {"partial_rotary_factor": 0.5},
    ),
    "gemma3": (
        "gemma3_text",
        {"rope_theta": 2e6, "rope_local_base_freq": 2e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        {"rope_theta": 2e6, "rope_local_base_freq": 2e4, "rope_scaling": RopeScaling("linear", 8.0)},
    ),
    "gemma3 of transformers 5": (
        "gemma3_text",
        {
            "rope_parameters": {
                FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 2e6},
                SLIDING: {"rope_type": "default", "rope_theta": 2e4},
            }
        },
        {"rope_theta": 2e6, "rope_local_base_freq": 2e4, "rope_scaling": RopeScaling("linear", 8.0)},
    ),
    "gemma3 by default": ("gemma3_text", {}, {"rope_theta": 1e6, "rope_local_base_freq": 1e4}),
}


@pytest.mark.parametrize("name", ROPES)
def test_rotary_frequencies(name: str) -> None:
    model_type, given, expected = ROPES[name]
    shape = read(model_type, **given)
    assert {field: getattr(shape, field) for field in expected} == expected


WINDOWS: dict[str, tuple[str, dict[str, Any], list[tuple[tuple[int, ...], int]]]] = {
    "llama": ("llama", {"sliding_window": 32}, [(tuple(range(6)), -1)]),
    "mistral": ("mistral", {"sliding_window": 32}, [(tuple(range(6)), 32)]),
    "mistral without": ("mistral", {"sliding_window": None}, [(tuple(range(6)), -1)]),
    "mistral by default": ("mistral", {}, [(tuple(range(6)), 4096)]),
    "phi3": ("phi3", {"sliding_window": 32}, [(tuple(range(6)), 32)]),
    "qwen2": ("qwen2", {"sliding_window": 32, "max_window_layers": 2}, [(tuple(range(6)), -1)]),
    "qwen2 that uses it": (
        "qwen2",
        {"sliding_window": 32, "max_window_layers": 2, "use_sliding_window": True},
        [((0, 1), -1), ((2, 3, 4, 5), 32)],
    ),
    "qwen2 in all layers": (
        "qwen2",
        {"sliding_window": 32, "max_window_layers": 0, "use_sliding_window": True},
        [(tuple(range(6)), 32)],
    ),
    "gemma2": ("gemma2", {"sliding_window": 32}, [((0, 2, 4), 32), ((1, 3, 5), -1)]),
    "gemma3 windows": ("gemma3_text", {"sliding_window": 32}, [((0, 1, 2, 3, 4), 32), ((5,), -1)]),
    "gemma3 by a pattern": (
        "gemma3_text",
        {"sliding_window": 32, "sliding_window_pattern": 3},
        [((0, 1, 3, 4), 32), ((2, 5), -1)],
    ),
    "by name": (
        "gemma3_text",
        {"sliding_window": 32, "layer_types": [FULL, SLIDING] * 3},
        [((0, 2, 4), -1), ((1, 3, 5), 32)],
    ),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_which_layers_have_a_window(name: str) -> None:
    model_type, given, expected = WINDOWS[name]
    groups = read(model_type, **given).layer_groups
    assert [(group.layers, group.sliding_window_size) for group in groups] == expected


def test_what_gemma_leaves_out() -> None:
    shape = read("gemma2")
    assert (shape.attn_logit_softcapping, shape.final_logit_softcapping) == (50.0, 30.0)
    assert (shape.hidden_act, shape.tie_word_embeddings) == ("gelu_pytorch_tanh", True)
    assert (shape.query_pre_attn_scalar, shape.head_dim) == (256.0, 256)
    assert read("gemma2", attn_logit_softcapping=None).attn_logit_softcapping is None
    assert read("gemma3_text").final_logit_softcapping is None


def test_gemma3_that_sees_pictures_is_read_as_its_text_model() -> None:
    shape = model_config({"model_type": "gemma3", "text_config": {"sliding_window": 1024}}, "config.json")
    assert (shape.model_type, shape.num_attention_heads, shape.vocab_size) == ("gemma3_text", 8, 262_208)
    assert text_name("language_model.model.norm.weight") == "model.norm.weight"
    assert text_name("model.language_model.norm.weight") == "model.norm.weight"
    assert text_name("language_model.lm_head.weight") == "lm_head.weight"
    assert is_unread("model.vision_tower.x", shape, pictures=True)
    assert is_unread("language_model.lm_head.weight", shape, pictures=True)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"num_hidden_layers": None}, "num_hidden_layers: is missing"),
        ({"hidden_size": "64"}, "hidden_size: is '64', not a positive whole number"),
        ({"hidden_size": True}, "not a positive whole number"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps: is nan, not a positive number"),
        ({"rms_norm_eps": 10**5000}, "not a positive number"),
        ({"num_key_value_heads": 3}, "num_key_value_heads: does not divide"),
        ({"head_dim": 15}, "head_dim: is 15, not even"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "RoPE scaling 'dynamic' is not supported"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_scaling: factor: is missing"),
        ({"rope_scaling": {"rope_type": "llama3", **LLAMA3, "high_freq_factor": 1.0}}, "not below high_freq_factor"),
        ({"rope_scaling": []}, "rope_scaling: is .*not an object"),
        ({"rope_parameters": {FULL: {"rope_theta": 1.0}, SLIDING: {"rope_theta": 2.0}}}, "only gemma3 may have two"),
        ({"mlp_bias": True}, "mlp_bias is not supported"),
        ({"model_type": "phi3", "rope_scaling": {"type": "longrope", **FACTORS}, "head_dim": 32}, "8 factors, not 16"),
        ({"model_type": "gemma2", "layer_types": [FULL]}, "layer_types: does not say"),
    ],
)
def test_what_is_wrong_is_one_clear_line(more: dict[str, Any], says: str) -> None:
    with pytest.raises(KvscapeError, match=says) as caught:
        read(**{"model_type": "llama", **more})
    assert "\n" not in str(caught.value)


def test_unknown_architectures_name_those_that_are_read() -> None:
    with pytest.raises(
        UnsupportedModelError, match="'gpt2' is not supported; supported are gemma2, gemma3_text, llama"
    ):
        read("gpt2")


def test_a_token_beyond_the_vocabulary() -> None:
    with pytest.raises(KvscapeError, match="token 128: is none of 128"):
        model_config({"model_type": "llama", **SIZES}, "config.json", eos_token_ids=(128,))


@pytest.mark.parametrize("name", [*ROPES, *WINDOWS])
def test_the_artefacts_config_is_read_back_as_it_was(name: str) -> None:
    model_type, given, _ = (ROPES | WINDOWS)[name]
    shape = read(model_type, **given)
    assert model_config(hf_config(shape), "config.json") == shape


@pytest.mark.parametrize("name", [name for name in [*ROPES, *WINDOWS] if name != "longrope by its first name"])
def test_transformers_reads_the_same(name: str) -> None:
    transformers = pytest.importorskip("transformers", reason="the reference extra is not installed")
    model_type, given, _ = (ROPES | WINDOWS)[name]
    shape = read(model_type, **given)
    for written in ({"model_type": model_type, **SIZES, **given}, hf_config(shape)):
        theirs = transformers.AutoConfig.for_model(**written)
        kinds = getattr(theirs, "layer_types", None)
        window = getattr(theirs, "sliding_window", None)
        kinds = kinds or [SLIDING if window and model_type != "llama" else FULL] * shape.num_hidden_layers
        own = shape.layer_types or ((SLIDING if shape.sliding_window else FULL,) * shape.num_hidden_layers)
        assert list(own) == kinds
        rope = theirs.rope_parameters
        full = rope.get(FULL, rope)
        assert full["rope_theta"] == shape.rope_theta
        assert full["rope_type"] == shape.rope_scaling.rope_type
        assert full.get("factor", shape.rope_scaling.factor) == shape.rope_scaling.factor
        if shape.rope_local_base_freq:
            assert rope[SLIDING] == {"rope_type": "default", "rope_theta": shape.rope_local_base_freq}
        if shape.rope_scaling.original_max_position_embeddings:
            assert full["original_max_position_embeddings"] == shape.rope_scaling.original_max_position_embeddings
        for field in ("head_dim", "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"):
            assert getattr(theirs, field, getattr(shape, field)) == getattr(shape, field), field


@pytest.mark.parametrize("model_type", DEFAULTS)
@pytest.mark.parametrize("tied", [True, False])
def test_transformers_has_the_same_tensors(model_type: str, tied: bool) -> None:
    transformers = pytest.importorskip("transformers", reason="the reference extra is not installed")
    shape = read(model_type, head_dim=16, tie_word_embeddings=tied)
    theirs = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**hf_config(shape), pad_token_id=0)
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    ours = {part.name: part.shape for parts in hf_parts(shape).values() for part in parts}
    assert {name: size for name, size in shapes.items() if not is_unread(name, shape, pictures=False)} == ours
