"""Flags and overrides become configuration, and may not disagree."""

import pytest

from kvscape.cli.chosen import build_config, engine_fields, workload
from kvscape.config import BuildConfig
from kvscape.errors import ConfigError, DeviceError


def test_nothing_given_is_nothing_set() -> None:
    assert engine_fields({"kv_dtype": None, "overrides": ""}) == {}
    assert build_config({"model": None}) == BuildConfig()


def test_flags_and_overrides_add_up() -> None:
    flags = {"kv_dtype": "int8", "overrides": "context_window_size=4096;prefill_chunk_size=1024"}
    assert engine_fields(flags) == {"kv_dtype": "int8", "context_window_size": 4096, "prefill_chunk_size": 1024}


def test_a_switch_is_on_off_or_not_given() -> None:
    assert [engine_fields({"prefix_cache": value}) for value in (None, True, False)] == [
        {},
        {"prefix_cache": True},
        {"prefix_cache": False},
    ]


def test_a_flag_and_an_override_may_say_the_same() -> None:
    assert engine_fields({"page_size": 8, "overrides": "page_size=8"}) == {"page_size": 8}


def test_a_flag_and_an_override_may_not_disagree() -> None:
    with pytest.raises(ConfigError, match="--page-size 8 and the override page_size=16"):
        engine_fields({"page_size": 8, "overrides": "page_size=16"})


def test_a_model_may_stand_without_its_flag() -> None:
    assert build_config({"model_argument": "a.gguf"}).model == "a.gguf"
    with pytest.raises(ConfigError, match="two models"):
        build_config({"model_argument": "a.gguf", "model": "b.gguf"})


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "metal", "tpu"])
def test_a_device_that_cannot_run_is_refused(device: str) -> None:
    with pytest.raises(DeviceError, match="cannot run here"):
        build_config({"device": device})


@pytest.mark.parametrize("text", ["3%", "0.03", " 3 %"])
def test_a_precision_is_a_share(text: str) -> None:
    assert workload({"precision": text}).precision == pytest.approx(0.03)


def test_what_is_no_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="'much' is not a share"):
        workload({"precision": "much"})


def test_zero_is_given() -> None:
    assert workload({"seed": 0, "prompt_tokens": 5}).prompt_tokens == 5
    with pytest.raises(ConfigError, match="num_runs = 0"):
        workload({"num_runs": 0})
