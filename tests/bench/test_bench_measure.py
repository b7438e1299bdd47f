from dataclasses import replace

import numpy as np
import pytest
from fake_subject import FakeClock, FakeSubject

from kvscape.bench.measure import measure, summarize
from kvscape.bench.thread_facts import bound_cores
from kvscape.config import DesignPoint, EngineConfig, Workload
from kvscape.errors import CapacityError
from kvscape.results import METRICS, Record

POINT = DesignPoint(
    engine=EngineConfig(context_window_size=64, max_batch_size=2),
    workload=Workload(prompt_tokens=8, max_tokens=5, num_runs=2),
    threads=1,
)


@pytest.fixture(scope="module")
def measured() -> tuple[Record, FakeSubject]:
    clock = FakeClock()
    subject = FakeSubject(clock)
    return measure(subject, POINT, clock), subject


def test_times_and_rates_follow_their_definitions(measured: tuple[Record, FakeSubject]) -> None:
    metrics = measured[0].metrics
    # First tokens after 1 s and 2 s, then four steps of 0.25 s for both streams: the end is at 3 s.
    assert metrics["ttft_s"] == 1.5
    assert metrics["e2e_s"] == 3.0
    assert metrics["tpot_s"] == pytest.approx(((3 - 1) / 4 + (3 - 2) / 4) / 2)
    assert metrics["prefill_tokens_per_s"] == 2 * 8 / 2
    assert metrics["decode_tokens_per_s"] == 2 / 0.25
    assert metrics["itl_p50_s"] == 0.25
    assert metrics["chars_per_s"] == 2 * 5 * 2 / 3


def test_memory_is_the_subjects_own(measured: tuple[Record, FakeSubject]) -> None:
    metrics = measured[0].metrics
    assert (metrics["weights_bytes"], metrics["kv_cache_bytes"], metrics["workspace_bytes"]) == (100_000, 2000, 300)
    assert metrics["total_bytes"] == 102_300
    assert metrics["bits_per_weight"] == 5.0
    assert metrics["peak_rss_bytes"] > 10_000_000


def test_the_prediction_stands_beside_the_measurement(measured: tuple[Record, FakeSubject]) -> None:
    predicted = measured[0].predicted
    assert predicted["total_bytes"] == 102_400
    assert set(predicted) < set(METRICS)
    assert {"prefill_tokens_per_s", "decode_tokens_per_s", "ttft_s", "tpot_s", "e2e_s"} < set(predicted)


def test_all_metrics_but_perplexity_are_there(measured: tuple[Record, FakeSubject]) -> None:
    assert set(measured[0].metrics) == set(METRICS) - {"perplexity"}


def test_the_warm_up_is_run_and_not_recorded(measured: tuple[Record, FakeSubject]) -> None:
    record, subject = measured
    assert len(subject.runs) == 3
    assert len(record.samples["decode_tokens_per_s"]) == 2
    assert len(record.samples["ttft_s"]) == 2 * 2
    assert len(record.samples["itl_s"]) == 2 * 2 * 4


def test_each_median_has_its_interval() -> None:
    clock = FakeClock()
    point = replace(POINT, workload=replace(POINT.workload, num_runs=3))
    record = measure(FakeSubject(clock), point, clock)
    assert record.intervals["decode_tokens_per_s"] == [8.0, 8.0]
    assert record.intervals["ttft_s"] == [1.5, 1.5]  # of both streams, in every run
    assert set(record.intervals) < set(METRICS)
    assert record.warm_up_s == [3.0]


def test_two_runs_have_no_interval(measured: tuple[Record, FakeSubject]) -> None:
    assert measured[0].intervals == {}


def test_a_precision_asks_for_more_runs() -> None:
    clock = FakeClock()
    subject = FakeSubject(clock)
    steps: list[None] = []
    point = replace(POINT, workload=replace(POINT.workload, precision=0.03))
    record = measure(subject, point, clock, lambda: steps.append(None))
    assert len(record.samples["decode_tokens_per_s"]) == 5
    assert len(subject.runs) == len(steps) == 6


def test_no_run_repeats_the_prompts_of_another(measured: tuple[Record, FakeSubject]) -> None:
    prompts = [tuple(prompt) for run in measured[1].runs for prompt in run]
    assert len(set(prompts)) == len(prompts) == 6
    assert {len(prompt) for prompt in prompts} == {8}
    assert all(10 <= token < 90 for prompt in prompts for token in prompt)


def test_the_seed_decides_the_prompts() -> None:
    def prompts(seed: int) -> list[list[list[int]]]:
        clock = FakeClock()
        subject = FakeSubject(clock)
        measure(subject, replace(POINT, workload=replace(POINT.workload, seed=seed)), clock)
        return subject.runs

    assert prompts(1) == prompts(1)
    assert prompts(1) != prompts(2)


def test_the_record_says_what_ran_where(measured: tuple[Record, FakeSubject]) -> None:
    record = measured[0]
    assert record.parameters == POINT.flat()
    assert record.kernels == ("q4af16_1_gemv",)
    assert record.environment["threads"] == 1
    assert record.environment["bound_cores"] == bound_cores()
    assert record.environment["memory_bytes_per_s"] > 1e8


def test_a_workload_beyond_the_context_is_refused() -> None:
    clock = FakeClock()
    point = replace(POINT, engine=EngineConfig(context_window_size=12))
    with pytest.raises(CapacityError, match="prompt_tokens 8 \\+ max_tokens 5 exceed context_window_size 12"):
        measure(FakeSubject(clock), point, clock)


def test_percentiles_are_taken_over_all_times_between_tokens() -> None:
    itl = [float(number) for number in range(1, 101)]
    summary = summarize({"ttft_s": [3.0, 1.0, 2.0], "itl_s": itl})
    assert summary == {"ttft_s": 2.0, "itl_p50_s": 50.5, "itl_p99_s": pytest.approx(np.percentile(itl, 99))}
