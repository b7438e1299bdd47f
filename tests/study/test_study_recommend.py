import shlex
from dataclasses import replace
from typing import Any

import pytest

from kvscape.config import DesignPoint
from kvscape.errors import ConfigError, ResultsError
from kvscape.results import Record
from kvscape.study import Budget, Recommendation, pareto_front, parse_bytes, parse_increase, recommend


def record(total_bytes: float, stream_tokens_per_s: float, perplexity: float, **parameters: Any) -> Record:
    metrics = {
        "total_bytes": total_bytes,
        "tpot_s": 1 / stream_tokens_per_s,
        "decode_tokens_per_s": stream_tokens_per_s,
        "perplexity": perplexity,
    }
    return Record(DesignPoint.from_flat(parameters).flat(), metrics, {}, {}, {})


EXACT = record(500e6, 50, 20.0, quantization="q0f16")
GOOD = record(200e6, 90, 20.3, quantization="auto")
SMALL = record(150e6, 120, 30.0, quantization="q4f16_1")
ALL = [EXACT, GOOD, SMALL]


def chosen(budget: Budget, records: list[Record] = ALL) -> Recommendation:
    return recommend(records, budget)


@pytest.mark.parametrize(
    ("budget", "quantization"),
    [
        (Budget(), "q4f16_1"),
        (Budget(max_perplexity_ratio=1.02), "auto"),
        (Budget(max_perplexity_ratio=1.01), "q0f16"),
        (Budget(max_total_bytes=200_000_000, max_perplexity_ratio=1.5), "q4f16_1"),
        (Budget(max_total_bytes=200_000_000, max_perplexity_ratio=1.02), "auto"),
        (Budget(min_decode_tokens_per_s=80, max_perplexity_ratio=1.02), "auto"),
        (Budget(max_perplexity_ratio=1.01, baseline="q4f16_1"), "q4f16_1"),
    ],
)
def test_the_fastest_point_within_the_budget_wins(budget: Budget, quantization: str) -> None:
    answer = chosen(budget)
    assert (answer.status, answer.point["quantization"], answer.broken) == ("met", quantization, ())


def test_between_equal_speeds_the_longer_context_then_the_larger_batch_wins() -> None:
    short = record(100e6, 101, 20.0, context_window_size=1024, max_batch_size=4)
    long = record(200e6, 100, 20.0, context_window_size=4096, max_batch_size=1)
    many = record(300e6, 99, 20.0, context_window_size=4096, max_batch_size=4)
    slow = record(300e6, 90, 20.0, context_window_size=8192)
    assert chosen(Budget(), [short, long, many, slow]).point == many.parameters


def test_a_batch_is_judged_by_what_one_stream_gets() -> None:
    batch = record(100e6, 40, 20.0, max_batch_size=4)
    batch = replace(batch, metrics={**batch.metrics, "decode_tokens_per_s": 160.0})
    assert chosen(Budget(min_decode_tokens_per_s=50), [batch]).status == "not_met"


def test_the_nearest_miss_names_what_it_breaks() -> None:
    answer = chosen(Budget(max_total_bytes=190_000_000, min_decode_tokens_per_s=100, max_perplexity_ratio=1.02))
    assert (answer.status, answer.point["quantization"]) == ("not_met", "auto")
    assert [limit.name for limit in answer.broken] == ["total_bytes", "decode_tokens_per_s of a stream"]
    assert answer.broken[1].excess == pytest.approx(100 / 90 - 1)
    assert "total memory 190.73 MiB misses 181.2 MiB by 5.3%, decode speed of a stream 90 tokens/s" in answer.reason


def test_other_workloads_are_named_beside_the_one_that_counts() -> None:
    long = record(600e6, 40, 21.0, prompt_tokens=1024)
    (note,) = chosen(Budget(), [EXACT, GOOD, long]).notes
    assert note.startswith("judged by --prompt-tokens 128 --max-tokens 128; also studied: --prompt-tokens 1024")
    assert note.count("--prompt-tokens 128") == 1


def test_the_commands_build_and_run_that_very_point() -> None:
    point = {"model": "my model.gguf", "quantization": "auto", "kv_dtype": "int8", "max_batch_size": 4, "threads": 2}
    answer = chosen(Budget(), [record(1, 1, 1, **point)])
    compiled, chat, bench = (shlex.split(command) for command in answer.commands)
    assert compiled == ["kvscape", "compile", "--model", "my model.gguf", "--quantization", "auto"]
    assert chat[:2] == ["kvscape", "chat"]
    assert chat[-6:] == ["--max-batch-size", "4", "--kv-dtype", "int8", "--threads", "2"]
    given = {flag[2:].replace("-", "_"): value for flag, value in zip(bench[2::2], bench[3::2], strict=True)}
    numbers = {name: int(value) if value.isdigit() else value for name, value in given.items()}
    assert DesignPoint.from_flat(numbers).flat() == answer.point


def test_failed_points_are_never_recommended() -> None:
    failed = replace(SMALL, status="failed", metrics={})
    assert chosen(Budget(), [failed, GOOD]).point == GOOD.parameters
    with pytest.raises(ResultsError, match="no point has been measured"):
        chosen(Budget(), [failed])


def test_a_limit_on_perplexity_needs_one() -> None:
    unknown = replace(GOOD, metrics={k: v for k, v in GOOD.metrics.items() if k != "perplexity"})
    assert chosen(Budget(max_perplexity_ratio=1.5), [unknown, EXACT]).point == EXACT.parameters
    with pytest.raises(ResultsError, match="no perplexity at all"):
        chosen(Budget(max_perplexity_ratio=1.5), [unknown])
    with pytest.raises(ResultsError, match="no perplexity of q8f16_1"):
        chosen(Budget(max_perplexity_ratio=1.5, baseline="q8f16_1"))


@pytest.mark.parametrize(
    ("text", "size"),
    [("2 GiB", 2**31), ("2GiB", 2**31), ("500 MB", 500_000_000), ("1.5kib", 1536), ("1000", 1000), (" 7 B ", 7)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(("text", "ratio"), [("2%", 1.02), ("0.02", 1.02), ("0.5 %", 1.005), ("0%", 1.0)])
def test_increases_are_read(text: str, ratio: float) -> None:
    assert parse_increase(text) == pytest.approx(ratio)


@pytest.mark.parametrize("text", ["much", "2 Gib B", "-1 GiB", "", "2 QiB", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["two", "2 GiB", "-2%"])
def test_what_is_no_increase_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_increase(text)


def test_the_front_holds_what_nothing_beats() -> None:
    worse = record(210e6, 80, 20.3)
    mixed = record(140e6, 10, 40.0)
    assert pareto_front([EXACT, GOOD, worse, SMALL, mixed]) == [EXACT, GOOD, SMALL, mixed]


def test_equals_all_stay_and_the_direction_counts() -> None:
    twin = replace(SMALL, reason="twin")
    assert pareto_front([EXACT, SMALL, twin, GOOD], {"decode_tokens_per_s": "max"}) == [SMALL, twin]


def test_each_workload_has_its_front() -> None:
    long = record(600e6, 40, 21.0, prompt_tokens=1024)
    assert pareto_front([EXACT, long]) == [EXACT, long]
    assert pareto_front([EXACT, record(600e6, 40, 21.0)]) == [EXACT]


def test_a_record_that_was_not_measured_is_not_on_the_front() -> None:
    assert pareto_front([replace(SMALL, status="failed", metrics={}), GOOD]) == [GOOD]


def test_without_perplexities_the_front_is_of_memory_and_speed() -> None:
    known = [replace(one, metrics={k: v for k, v in one.metrics.items() if k != "perplexity"}) for one in ALL]
    assert pareto_front(known) == [known[2]]
    assert pareto_front([replace(SMALL, status="failed", metrics={})]) == []


def test_where_several_machines_measured_the_answer_says_which_one_did() -> None:
    here, there = (replace(one, environment={"cpu": "a processor", "machine": name})
                   for one, name in ((GOOD, "here"), (SMALL, "there")))  # fmt: skip
    assert chosen(Budget(), [here, there]).notes == (
        "measured on a processor there, one of 2 machines: its speed is of that one",
    )
    assert chosen(Budget(), [here, replace(there, environment=here.environment)]).notes == ()
