import pytest

from kvscape.config import ModelConfig
from kvscape.errors import WeightsError
from kvscape.weights.mapping import FREQUENCIES, Part, check_parts, gguf_parts


def shape(tied: bool = True) -> ModelConfig:
    return ModelConfig("llama", 64, 128, 2, 4, 2, 16, 320, 1e-5, 1e4, 256, tied)


def test_names_are_mlcs_in_the_models_order() -> None:
    names = list(gguf_parts(shape()))
    assert names[:7] == [
        "model.embed_tokens",
        "model.layers.0.input_layernorm",
        "model.layers.0.self_attn.qkv_proj",
        "model.layers.0.self_attn.o_proj",
        "model.layers.0.post_attention_layernorm",
        "model.layers.0.mlp.gate_up_proj",
        "model.layers.0.mlp.down_proj",
    ]
    assert names[-1] == "model.norm" and len(names) == 14
    assert list(gguf_parts(shape(tied=False)))[-1] == "lm_head"


def test_only_queries_and_keys_are_reordered() -> None:
    parts = gguf_parts(shape())
    assert [part.rotary_heads for part in parts["model.layers.1.self_attn.qkv_proj"]] == [4, 2, 0]
    assert not any(p.rotary_heads for name, ps in parts.items() if "qkv" not in name for p in ps)


PARTS = [Part("a", (4, 2)), Part("b", (3,))]


def test_the_files_own_tensors_pass() -> None:
    check_parts(PARTS, {"b": (3,), "a": (4, 2)})


@pytest.mark.parametrize(
    ("shapes", "match"),
    [
        ({"a": (4, 2)}, "missing: b;"),
        ({"a": (4, 2), "b": (3,), "z": (1,), "y": (1,)}, "left over: y, z;"),
        ({"a": (2, 4), "b": (3,)}, r"of another shape: a is \(2, 4\), not \(4, 2\)"),
        ({"c": (1,)}, "missing: a, b; left over: c"),
    ],
)
def test_every_difference_is_listed(shapes: dict[str, tuple[int, ...]], match: str) -> None:
    with pytest.raises(WeightsError, match=match):
        check_parts(PARTS, shapes)


@pytest.mark.parametrize("name", FREQUENCIES)
def test_tensors_of_frequencies_belong_to_the_shape(name: str) -> None:
    check_parts(PARTS, {"a": (4, 2), "b": (3,), name: (8,)})


def test_a_long_list_is_cut() -> None:
    with pytest.raises(WeightsError, match=r"left over: x000, .* and 80 more;"):
        check_parts([], {f"x{number:03}": (1,) for number in range(100)})
