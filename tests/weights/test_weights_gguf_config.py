from typing import Any

import numpy as np
import pytest

from kvscape.config import FULL, SLIDING, UNSCALED, RopeScaling
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
        ({"llama__rope__scaling__type": "longer"}, "RoPE scaling 'longer'"),
        ({"llama__rope__scaling__type": "longrope"}, "'longrope' without tensors of factors"),
        ({"llama__rope__scaling__type": "yarn", "llama__rope__scaling__yarn_log_multiplier": 0.1}, "yarn_log_mult"),
        ({"llama__rope__dimension_count": 96, "llama__attention__key_length": 64}, "differ in size"),
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


def of(architecture: str, **changes: Any) -> dict[str, Any]:
    """The same metadata under another architecture's name."""
    own = {key.replace("llama.", f"{architecture}."): value for key, value in METADATA.items()}
    more = {f"{architecture}.{key.replace('__', '.')}": value for key, value in changes.items()}
    return {**own, "general.architecture": architecture, **more}


def shape_of(architecture: str, factors: Any = None, **changes: Any) -> Any:
    return model_config(of(architecture, **changes), 49152, True, factors or {})


def test_gemma_2_alternates_and_caps() -> None:
    shape = shape_of("gemma2", attention__sliding_window=1024, final_logit_softcapping=20.0)
    assert (shape.model_type, shape.hidden_act) == ("gemma2", "gelu_pytorch_tanh")
    assert shape.layer_types == (SLIDING, FULL) * 15 and shape.sliding_window == 1024
    assert (shape.attn_logit_softcapping, shape.final_logit_softcapping) == (50.0, 20.0)
    assert shape.query_pre_attn_scalar == 64 and shape.rope_local_base_freq is None
    assert shape_of("gemma2").sliding_window == 4096


def test_gemma_3_sees_all_in_every_sixth_layer() -> None:
    shape = shape_of("gemma3", attention__sliding_window=512, rope__scaling__type="linear", rope__scaling__factor=8.0)
    assert shape.model_type == "gemma3_text"
    assert shape.layer_types == ((SLIDING,) * 5 + (FULL,)) * 5
    assert (shape.rope_local_base_freq, shape.rope_scaling) == (10000.0, RopeScaling("linear", 8.0))
    assert (shape.attn_logit_softcapping, shape.final_logit_softcapping) == (None, None)
    assert shape_of("gemma3", attention__sliding_window=512, rope__freq_base_swa=2e4).rope_local_base_freq == 2e4


@pytest.mark.parametrize(
    ("pattern", "types"), [(3, (SLIDING, SLIDING, FULL)), ([True, False, False], (SLIDING, FULL, FULL))]
)
def test_gemma_3_may_say_its_pattern(pattern: Any, types: tuple[str, ...]) -> None:
    keys = {"attention__sliding_window": 512, "attention__sliding_window_pattern": pattern, "block_count": 3}
    assert shape_of("gemma3", **keys).layer_types == types


@pytest.mark.parametrize(
    ("architecture", "layers", "scalar"), [("gemma2", 46, 144), ("gemma2", 42, 64), ("gemma3", 62, 144)]
)
def test_only_the_models_of_27b_scale_queries_by_their_share(architecture: str, layers: int, scalar: float) -> None:
    shape = shape_of(architecture, block_count=layers, embedding_length=1296, attention__sliding_window=512)
    assert shape.query_pre_attn_scalar == scalar


def test_qwen_and_mistral_are_plain() -> None:
    for name in ("qwen2", "qwen3"):
        shape = shape_of(name, attention__key_length=64)
        assert (shape.model_type, shape.sliding_window, shape.layer_types) == (name, None, ())
    shape = shape_of("llama", attention__sliding_window=4096)
    assert (shape.model_type, shape.sliding_window) == ("mistral", 4096)


def test_phi_3_rotates_a_part_and_has_factors() -> None:
    factors = {f"rope_factors_{which}.weight": np.full(24, f, np.float32) for which, f in [("long", 1.1), ("short", 1)]}
    shape = shape_of(
        "phi3",
        factors,
        rope__dimension_count=48,
        attention__sliding_window=2047,
        rope__scaling__original_context_length=4096,
        rope__scaling__attn_factor=1.19023799896240,
    )
    assert (shape.head_dim, shape.partial_rotary_factor, shape.sliding_window) == (64, 0.75, 2047)
    expected = RopeScaling("longrope", 2.0, 4096, 1.190238, short_factor=(1.0,) * 24, long_factor=(1.1,) * 24)
    assert shape.rope_scaling == expected


def test_yarn_has_its_own_keys() -> None:
    keys = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0}
    plain = shape_of("qwen2", rope__scaling__original_context_length=2048, **keys).rope_scaling
    assert plain == RopeScaling("yarn", 4.0, 2048)
    keys |= {"rope__scaling__attn_factor": 0.5, "rope__scaling__yarn_beta_fast": 16.0}
    scaled = shape_of("qwen2", **keys).rope_scaling
    assert (scaled.beta_fast, scaled.original_max_position_embeddings) == (16.0, 8192)
    assert scaled.attention_factor == pytest.approx(0.5 * (0.1 * np.log(4) + 1))


def test_a_factor_without_a_type_is_linear() -> None:
    assert config(llama__rope__scale_linear=2.0).rope_scaling == RopeScaling("linear", 2.0)
    assert config(llama__rope__scaling__type="none").rope_scaling == UNSCALED


def llama3(factor: float, pairs: int = 32, theta: float = 1e5, original: int = 8192) -> Any:
    """Divisors of the frequencies, one by one, as Llama 3.1 was published."""
    divisors = []
    for pair in range(pairs):
        wave = 2 * np.pi * theta ** (2 * pair / (2 * pairs))
        share = (original / wave - 1) / (4 - 1)
        between = 1 / ((1 - share) / factor + share)
        divisors.append(1 if wave < original / 4 else factor if wave > original / 1 else between)
    return {"rope_freqs.weight": np.array(divisors, np.float32)}


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_frequencies_of_llama_3_are_recognised(factor: float) -> None:
    scaling = shape_of("llama", llama3(factor)).rope_scaling
    assert scaling == RopeScaling("llama3", factor, 8192, low_freq_factor=1.0, high_freq_factor=4.0)


def test_frequencies_that_divide_by_one_change_nothing() -> None:
    assert shape_of("llama", {"rope_freqs.weight": np.ones(32, np.float32)}).rope_scaling == UNSCALED


@pytest.mark.parametrize("factors", [llama3(16.0), llama3(8.0, pairs=16), llama3(8.0, original=4096)])
def test_other_frequencies_are_refused(factors: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=r"rope_freqs\.weight\) that are not those of Llama 3\.1 or 3\.2"):
        shape_of("llama", factors)


def test_factors_that_are_no_numbers_are_damage() -> None:
    broken = {f"rope_factors_{which}.weight": np.full(32, np.nan, np.float32) for which in ("long", "short")}
    with pytest.raises(WeightsError, match="not all positive"):
        shape_of("phi3", broken)


@pytest.mark.parametrize(
    ("model", "pre", "bos"), [("llama", None, 1), ("gpt2", "llama-bpe", 1), ("gpt2", "qwen2", None)]
)
def test_where_nothing_is_said_the_tokenizer_says_if_a_text_has_a_beginning(
    model: str, pre: str | None, bos: int | None
) -> None:
    keys = {"tokenizer__ggml__add_bos_token": None, "tokenizer__ggml__model": model, "tokenizer__ggml__pre": pre}
    assert config(**keys).bos_token_id == bos


def test_the_end_of_a_turn_is_found_by_its_name() -> None:
    tokens = {
        "tokenizer__ggml__tokens": ["<|end|>", "a", "b", "<|im_end|>"],
        "tokenizer__ggml__token_type": [1, 1, 1, 3],
    }
    assert config(**tokens).eos_token_ids == (2, 3)  # <|end|> is ordinary text here
    tokens["tokenizer__ggml__token_type"] = [3, 1, 1, 1]
    assert config(**tokens).eos_token_ids == (2, 0)
    assert config(**tokens, tokenizer__ggml__eot_token_id=1).eos_token_ids == (2, 1)
