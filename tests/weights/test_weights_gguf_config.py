from typing import Any

import pytest

from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.weights.readers.gguf_config import model_config

METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 30,
    "llama.context_length": 8192,
    "llama.embedding_length": 576,
    "llama.feed_forward_length": 1536,
    "llama.attention.head_count": 9,
    "llama.attention.head_count_kv": 3,
    "llama.rope.freq_base": 100000.0,
    "llama.attention.layer_norm_rms_epsilon": 9.999999747378752e-06,
    "llama.rope.dimension_count": 64,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.add_bos_token": False,
}


def config(**changes: Any) -> Any:
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    metadata = {key: value for key, value in {**METADATA, **changed}.items() if value is not None}
    return model_config(metadata, vocab_size=49152, tie_word_embeddings=True)


def test_the_shape_is_in_hugging_faces_words() -> None:
    assert (
        config().to_json().items()
        >= {
            "model_type": "llama",
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "head_dim": 64,
            "vocab_size": 49152,
            "rms_norm_eps": 1e-5,
            "rope_theta": 100000.0,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_ids": (2,),
        }.items()
    )


def test_keys_that_may_be_missing_have_llamas_defaults() -> None:
    shape = config(llama__rope__dimension_count=None, llama__attention__head_count_kv=None, llama__rope__freq_base=None)
    assert (shape.head_dim, shape.num_key_value_heads, shape.rope_theta) == (64, 9, 10000)


def test_heads_may_be_wider_than_their_share() -> None:
    assert config(llama__attention__key_length=128, llama__rope__dimension_count=128).head_dim == 128
    assert config(llama__attention__key_length=128, llama__rope__dimension_count=None).head_dim == 128


def test_bos_is_kept_only_where_the_model_wants_it() -> None:
    assert config(tokenizer__ggml__add_bos_token=True).bos_token_id == 1
    assert config(tokenizer__ggml__add_bos_token=None).bos_token_id is None


def test_the_end_of_a_turn_ends_a_text_too() -> None:
    assert config(tokenizer__ggml__eot_token_id=7).eos_token_ids == (2, 7)
    assert config(tokenizer__ggml__eot_token_id=2).eos_token_ids == (2,)
    assert config(tokenizer__ggml__eos_token_id=None).eos_token_ids == ()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"general__architecture": "mamba"}, "architecture 'mamba' is not supported; use a model of llama"),
        ({"llama__expert_count": 8}, "llama with experts"),
        ({"llama__rope__scaling__type": "yarn"}, "RoPE scaling 'yarn'"),
        ({"llama__rope__dimension_count": 32, "llama__attention__key_length": 64}, "differ in size"),
        ({"llama__attention__value_length": 32}, "differ in size"),
    ],
)
def test_what_is_not_implemented_is_named(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(UnsupportedModelError, match=match):
        config(**changes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"general__architecture": None}, "general.architecture: is missing"),
        ({"llama__block_count": None}, "llama.block_count: is missing"),
        ({"llama__block_count": 0}, "llama.block_count: is 0, not a positive whole number"),
        ({"llama__attention__head_count": [9, 9]}, r"head_count: is \[9, 9\]"),
        ({"llama__embedding_length": "576"}, "embedding_length: is '576'"),
        ({"llama__rope__freq_base": float("nan")}, "freq_base: is nan"),
        ({"llama__attention__head_count_kv": 2}, "head_count_kv: does not divide"),
        ({"llama__rope__dimension_count": 63}, "dimension_count: is 63, not even"),
        ({"tokenizer__ggml__eos_token_id": 49152}, "eos_token_id: is 49152, not a token"),
    ],
)
def test_a_wrong_value_is_named(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(WeightsError, match=match):
        config(**changes)
