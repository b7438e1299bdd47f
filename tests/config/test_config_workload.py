import pytest

from kvscape.config import DesignPoint, EngineConfig, Workload, asked_flags, asked_of
from kvscape.errors import ConfigError


def test_a_rate_of_nothing_is_no_rate_and_equal_rates_are_equal() -> None:
    assert Workload(request_rate=0) == Workload()
    assert Workload(request_rate=4) == Workload(request_rate=4.0)
    assert isinstance(Workload(request_rate=4).request_rate, float)


@pytest.mark.parametrize(("name", "value"), [("request_rate", -1), ("request_rate", float("inf")), ("num_requests", 0)])
def test_what_makes_no_sense_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} = {value}: it must be at least"):
        DesignPoint.from_flat({name: value})


@pytest.mark.parametrize(
    ("workload", "requests", "as_one"),
    [
        (Workload(), 4, True),
        (Workload(num_requests=4), 4, True),
        (Workload(num_requests=2), 2, True),
        (Workload(num_requests=5), 5, False),
        (Workload(request_rate=1.0), 4, False),
    ],
)
def test_requests_run_as_one_where_none_waits_or_comes_later(workload: Workload, requests: int, as_one: bool) -> None:
    point = DesignPoint(engine=EngineConfig(max_batch_size=4), workload=workload)
    assert (point.num_requests, point.runs_as_one) == (requests, as_one)


def test_what_is_asked_tells_workloads_apart() -> None:
    old = {"prompt_tokens": 128, "max_tokens": 64, "kv_dtype": "f16"}
    new = DesignPoint(workload=Workload(prompt_tokens=128, max_tokens=64)).flat()
    assert asked_of(old) == asked_of(new)
    assert asked_of({**new, "request_rate": 2.0}) != asked_of(new)
    assert asked_flags(asked_of({**new, "request_rate": 0.5})) == (
        "--prompt-tokens 128 --max-tokens 64 --request-rate 0.5"
    )
