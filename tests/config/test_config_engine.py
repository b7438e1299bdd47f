from dataclasses import replace
from typing import Any

import pytest

from kvscape.config import FULL, SLIDING, EngineConfig, ModelConfig, RopeScaling
from kvscape.errors import ConfigError


def model(context: int = 8192) -> ModelConfig:
    return ModelConfig(
        model_type="llama",
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=320,
        rms_norm_eps=1e-5,
        rope_theta=1e4,
        max_position_embeddings=context,
        tie_word_embeddings=True,
    )


def test_the_defaults_are_those_of_the_documentation() -> None:
    config = EngineConfig()
    assert (config.context_window_size, config.prefill_chunk_size, config.max_batch_size) == (2048, 512, 1)
    assert (config.kv_dtype, config.page_size, config.prefix_cache) == ("f16", 16, True)
    assert (config.sliding_window_size, config.attention_sink_size) == (-1, 0)


@pytest.mark.parametrize(("made_for", "context"), [(8192, 2048), (2048, 2048), (256, 256)])
def test_without_a_choice_the_context_is_2048_or_the_models(made_for: int, context: int) -> None:
    assert EngineConfig.chosen({}, model(made_for)).context_window_size == context


def test_what_is_none_is_not_chosen() -> None:
    chosen = EngineConfig.chosen({"context_window_size": None, "page_size": 32, "kv_dtype": None}, model(256))
    assert chosen == EngineConfig(context_window_size=256, prefill_chunk_size=256, page_size=32)


def test_a_context_the_model_was_not_made_for() -> None:
    with pytest.raises(ConfigError, match="context_window_size = 257: the model was made for 256 tokens; use at most"):
        EngineConfig.chosen({"context_window_size": 257}, model(256))
    with pytest.raises(ConfigError, match="use at most 256"):
        EngineConfig().fitted(model(256))


def test_a_chunk_is_at_most_the_context() -> None:
    assert EngineConfig(context_window_size=64).fitted(model()).prefill_chunk_size == 64
    assert EngineConfig(prefill_chunk_size=32).fitted(model()).prefill_chunk_size == 32


def test_the_cache_holds_context_times_batch_or_what_is_asked() -> None:
    assert EngineConfig(context_window_size=100, max_batch_size=3).total_tokens == 300
    assert EngineConfig(max_batch_size=3, max_total_sequence_length=10).total_tokens == 10


def test_sinks_of_minus_one_mean_none_as_in_mlcs_files() -> None:
    assert EngineConfig(attention_sink_size=-1) == EngineConfig()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"context_window_size": 0}, "context_window_size = 0: it must be at least 1"),
        ({"prefill_chunk_size": 0}, "prefill_chunk_size = 0"),
        ({"max_batch_size": -1}, "max_batch_size = -1"),
        ({"page_size": 0}, "page_size = 0"),
        ({"max_total_sequence_length": 0}, "max_total_sequence_length = 0"),
        ({"kv_dtype": "fp16"}, "unknown kv_dtype 'fp16'; did you mean 'f16'"),
        ({"sliding_window_size": 0}, "use -1 for no window"),
        ({"attention_sink_size": 4}, "there is no window"),
    ],
)
def test_values_that_make_no_sense(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EngineConfig(**fields)


def test_an_unknown_field_names_the_near_match() -> None:
    with pytest.raises(ConfigError, match="unknown key 'page_sizes'; did you mean 'page_size'"):
        EngineConfig.chosen({"page_sizes": 16}, model())


def test_a_text_may_be_longer_than_the_context_where_all_layers_have_a_window() -> None:
    windowed = replace(model(256), sliding_window=64)
    assert EngineConfig(context_window_size=4096).fitted(windowed).context_window_size == 4096
    with pytest.raises(ConfigError, match="context_window_size = 4096: the model was made for 256 tokens"):
        EngineConfig(context_window_size=4096).fitted(replace(windowed, layer_types=(SLIDING, FULL)))
    with pytest.raises(ConfigError, match="context_window_size = 300"):
        EngineConfig(context_window_size=300).fitted(replace(windowed, sliding_window=512))


def test_yarn_adds_to_the_context() -> None:
    scaling = RopeScaling("yarn", 4.0, 256)
    assert replace(model(256), rope_scaling=scaling).longest_context == 1024
    assert replace(model(2048), rope_scaling=scaling).longest_context == 2048
    assert replace(model(256), rope_scaling=replace(scaling, rope_type="linear")).longest_context == 256


def test_a_query_sees_the_context_or_the_window() -> None:
    assert EngineConfig(context_window_size=300).seen_tokens == 300
    assert EngineConfig(context_window_size=300, sliding_window_size=64).seen_tokens == 64
    assert EngineConfig(context_window_size=300, sliding_window_size=512).seen_tokens == 300


@pytest.mark.parametrize(("drafted", "rows"), [(0, 4), (3, 16), (1000, 64)])
def test_drafts_want_rows_of_logits_of_their_own(drafted: int, rows: int) -> None:
    assert EngineConfig(max_batch_size=4, prefill_chunk_size=64, prompt_lookup_tokens=drafted).most_logit_rows == rows
