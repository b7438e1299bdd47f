"""Requests that come over time: each is measured from when it came."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from fake_subject import FakeClock, FakeSubject

from kvscape.bench.measure import measure
from kvscape.bench.workload import arrival_times_s
from kvscape.config import DesignPoint, EngineConfig, Workload
from kvscape.errors import ConfigError
from kvscape.results import METRICS
from kvscape.subjects import Token

POINT = DesignPoint(
    engine=EngineConfig(context_window_size=64, max_batch_size=2),
    workload=Workload(prompt_tokens=8, max_tokens=3, num_runs=2, num_requests=5, request_rate=0.5),
    threads=1,
)
SPEEDS = {"prefill_tokens_per_s", "decode_tokens_per_s", "ttft_s", "tpot_s", "e2e_s"}


class OneAtATime(FakeSubject):
    """Answers a request in 1 s for its first token and 0.25 s for each other; the next one waits for that."""

    def serve(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, asked_s: Sequence[float]
    ) -> Iterator[list[Token]]:
        start = self.clock.now
        self.runs.append([list(prompt) for prompt in prompts])
        for request, asked in enumerate(asked_s):
            self.clock.now = max(self.clock.now, start + asked) + 1.0
            yield [Token(request, 50)]
            for _ in range(max_tokens - 1):
                self.clock.now += 0.25
                yield [Token(request, 50)]


def test_gaps_are_exponential_and_the_seeds() -> None:
    many = replace(POINT, workload=replace(POINT.workload, num_requests=4000, request_rate=5.0))
    gaps = np.diff(arrival_times_s(many))
    assert arrival_times_s(many)[0] == 0.0
    assert (gaps > 0).all()
    assert np.mean(gaps) == pytest.approx(0.2, rel=0.05)
    assert np.std(gaps) == pytest.approx(0.2, rel=0.05)
    assert arrival_times_s(many) == arrival_times_s(many)
    other = replace(many, workload=replace(many.workload, seed=1))
    assert arrival_times_s(many) != arrival_times_s(other)


def test_without_a_rate_all_come_at_once() -> None:
    assert arrival_times_s(replace(POINT, workload=replace(POINT.workload, request_rate=None))) == [0.0] * 5


def test_each_request_is_measured_from_when_it_came() -> None:
    clock = FakeClock()
    record = measure(OneAtATime(clock), POINT, clock)
    asked = arrival_times_s(POINT)
    ends: list[float] = []
    for time in asked:
        ends.append(max(time, ends[-1] if ends else 0.0) + 1.5)
    assert record.samples["e2e_s"] == pytest.approx([end - time for time, end in zip(asked, ends, strict=True)] * 2)
    assert record.samples["ttft_s"] == pytest.approx([e2e - 0.5 for e2e in record.samples["e2e_s"]])
    assert record.samples["tpot_s"] == pytest.approx([0.25] * 10)
    assert max(record.samples["ttft_s"]) > 1.0  # one of them had to wait
    assert set(record.metrics) == set(METRICS) - {"perplexity"}


def test_the_rates_are_of_the_whole_run() -> None:
    clock = FakeClock()
    record = measure(OneAtATime(clock), POINT, clock)
    end = record.samples["e2e_s"][4] + arrival_times_s(POINT)[-1]
    assert record.metrics["decode_tokens_per_s"] == pytest.approx(5 * 3 / end)
    assert record.metrics["prefill_tokens_per_s"] == pytest.approx(5 * 8 / end)


def test_more_requests_than_places_wait_and_the_wait_is_in_their_times() -> None:
    clock = FakeClock()
    queued = replace(POINT, workload=replace(POINT.workload, request_rate=None))
    record = measure(OneAtATime(clock), queued, clock)
    assert record.samples["ttft_s"][:5] == pytest.approx([1.0, 2.5, 4.0, 5.5, 7.0])


def test_only_bytes_are_predicted() -> None:
    clock = FakeClock()
    record = measure(OneAtATime(clock), POINT, clock)
    assert record.predicted["total_bytes"] == 102_400
    assert not SPEEDS & set(record.predicted)


def test_a_subject_that_cannot_let_requests_wait_says_so() -> None:
    clock = FakeClock()
    with pytest.raises(ConfigError, match="leave num_requests and request_rate out"):
        measure(FakeSubject(clock), POINT, clock)


def test_fewer_requests_than_places_run_as_one() -> None:
    clock = FakeClock()
    one = replace(POINT, workload=replace(POINT.workload, request_rate=None, num_requests=1))
    record = measure(FakeSubject(clock), one, clock)
    assert record.metrics["prefill_tokens_per_s"] == 8.0
    assert record.metrics["decode_tokens_per_s"] == pytest.approx(4.0)
