from typing import Any

import pytest

from kvscape.config import BuildConfig, DesignPoint, EngineConfig, Workload
from kvscape.errors import ConfigError

POINT = DesignPoint(
    BuildConfig(quantization="q4f16_1", activation="float32"),
    EngineConfig(context_window_size=1024, kv_dtype="int8"),
    Workload(prompt_tokens=64, seed=3),
    threads=2,
)


def test_flat_has_every_parameter_by_its_flags_name() -> None:
    flat = POINT.flat()
    assert (flat["quantization"], flat["kv_dtype"], flat["prompt_tokens"], flat["threads"]) == (
        "q4f16_1", "int8", 64, 2,
    )  # fmt: skip
    assert len(flat) == 6 + 11 + 11 + 4 + 2


def test_flat_and_back_is_the_same_point() -> None:
    assert DesignPoint.from_flat(POINT.flat()) == POINT
    assert DesignPoint.from_flat({}) == DesignPoint()


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"kv_dtyp": "f16"}, "unknown key 'kv_dtyp' in space.toml; did you mean 'kv_dtype'"),
        ({"threads": "two"}, "threads = 'two' in space.toml: expected int or none"),
        ({"subject": 3}, "subject = 3 in space.toml: expected str"),
        ({"max_batch_size": "4"}, "max_batch_size = '4' in space.toml: expected int"),
        ({"activation": "int4"}, "unknown activation 'int4'; did you mean 'int8'"),
        ({"max_tokens": 1}, "max_tokens = 1: it must be at least 2"),
        ({"prompt_tokens": 0}, "prompt_tokens = 0"),
        ({"num_runs": 0}, "num_runs = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"precision": 0}, "precision = 0: it must lie between 0 and 1"),
        ({"precision": 3}, "precision = 3"),
        ({"precision": "3%"}, "precision = '3%' in space.toml: expected float or none"),
    ],
)
def test_mistakes_are_named(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DesignPoint.from_flat(mapping, "space.toml")
