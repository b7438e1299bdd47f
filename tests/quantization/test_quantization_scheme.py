import pytest

from kvscape.errors import ConfigError
from kvscape.quantization.format import FORMATS
from kvscape.quantization.scheme import EMBEDDING, HEAD, Scheme

MATRIX = "model.layers.0.mlp.down_proj"


def test_auto_keeps_each_tensors_own_format() -> None:
    assert Scheme().format_of(MATRIX, (64, 64), FORMATS["q4af16_1"]).name == "q4af16_1"
    assert Scheme().format_of(EMBEDDING, (64, 64), FORMATS["q8f16_1"]).name == "q8f16_1"


@pytest.mark.parametrize(
    ("name", "fmt"),
    [("q0f32", "f32"), ("q0f16", "f16"), ("q4f16_1", "q4f16_1"), ("q8f16_1", "q8f16_1"), ("q4af16_1", "q4af16_1")],
)
def test_a_named_quantization_holds_for_every_matrix(name: str, fmt: str) -> None:
    for tensor in (MATRIX, EMBEDDING, HEAD):
        assert Scheme(name).format_of(tensor, (64, 64), FORMATS["f16"]).name == fmt


@pytest.mark.parametrize("name", ["auto", "q0f16", "q4f16_1"])
def test_norms_are_f32_always(name: str) -> None:
    assert Scheme(name).format_of("model.norm", (64,), FORMATS["f16"]).name == "f32"


def test_embedding_and_head_may_differ_from_the_rest() -> None:
    scheme = Scheme("q4f16_1", "q8f16_1")
    names = [scheme.format_of(tensor, (64, 64), FORMATS["f16"]).name for tensor in (EMBEDDING, HEAD, MATRIX)]
    assert names == ["q8f16_1", "q8f16_1", "q4f16_1"]


def test_an_embedding_can_be_kept_while_the_rest_is_rounded() -> None:
    assert Scheme("q4f16_1", "auto").format_of(EMBEDDING, (64, 64), FORMATS["q8f16_1"]).name == "q8f16_1"


def test_the_embeddings_quantization_is_the_models_unless_given() -> None:
    assert (Scheme("q4f16_1").embedding, Scheme("q4f16_1", "auto").embedding) == ("q4f16_1", "auto")


def test_unknown_names_are_errors_that_name_the_near_match() -> None:
    with pytest.raises(ConfigError, match="unknown quantization 'q4f16'; did you mean 'q4f16_1'"):
        Scheme("q4f16")
    with pytest.raises(ConfigError, match="unknown embedding quantization 'q9'; choose one of"):
        Scheme("auto", "q9")
