import pytest

from kvscape.config import parse_overrides
from kvscape.errors import ConfigError


def test_mlcs_string_becomes_numbers() -> None:
    text = "context_window_size=4096;prefill_chunk_size=1024"
    assert parse_overrides(text) == {"context_window_size": 4096, "prefill_chunk_size": 1024}


@pytest.mark.parametrize("text", ["", ";", " ; ; "])
def test_nothing_overrides_nothing(text: str) -> None:
    assert parse_overrides(text) == {}


def test_space_and_an_open_end_are_allowed() -> None:
    assert parse_overrides(" sliding_window_size = -1 ; page_size=32; ") == {"sliding_window_size": -1, "page_size": 32}


def test_one_shard_is_what_there_is() -> None:
    assert parse_overrides("tensor_parallel_shards=1;page_size=32") == {"page_size": 32}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("context_window=1", "unknown override 'context_window'; did you mean 'context_window_size'"),
        ("kv_dtype=f16", "unknown override 'kv_dtype'"),
        ("page_size", "override 'page_size': the value is not a whole number; write page_size=1024"),
        ("page_size=16.0", "not a whole number"),
        ("page_size=16,max_batch_size=2", "not a whole number"),
        ("page_size=16;page_size=32", "page_size is set twice"),
        ("tensor_parallel_shards=2", "^override tensor_parallel_shards=2: a model runs on one device, whole; use"),
        ("tensor_parallel_shards=0", "a model runs on one device, whole"),
        ("tensor_parallel_shards=two", "write tensor_parallel_shards=1"),
        ("tensor_parallel_shards=1;tensor_parallel_shards=1", "is set twice"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_overrides(text)
