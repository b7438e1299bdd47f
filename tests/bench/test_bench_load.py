"""A load is counted in its steady part, by each request's own clock, and nothing that failed is hidden."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from kvscape.bench.load import LoadRun, measure_load, summarize_load
from kvscape.bench.steady import steady_part
from kvscape.config import DesignPoint, EndpointConfig, Workload, parse_slo
from kvscape.errors import ConfigError, EndpointError
from kvscape.results import METRICS, Record
from kvscape.results.load_table import write_load_table
from kvscape.study.repeats import joined
from kvscape.subjects.endpoint import Answer, EndpointSubject

POINT = DesignPoint(
    workload=Workload(concurrency=2, num_requests=20, num_runs=3, slo="ttft_s=0.5"),
    subject="endpoint",
    server=EndpointConfig(endpoint="http://here"),
)


def answered(asked_s: float, ttft_s: float = 0.2, tokens: int = 5) -> Answer:
    """A token each 0.1 s."""
    pieces = [asked_s + ttft_s + 0.1 * number for number in range(tokens)]
    return Answer(asked_s, tokens, asked_s + 0.001, pieces[-1], pieces, 2 * tokens, 10, tokens, "ok")


def failed(asked_s: float, status: str = "429", refused: int = 0) -> Answer:
    return Answer(asked_s, 5, asked_s, asked_s + 0.01, status=status, reason="too many", refused=refused)


class Answering:
    """A subject whose answers are known."""

    served_model, has_usage, ignores_eos = "tiny", True, True

    def __init__(self, found: Callable[[int], list[Answer]]) -> None:
        self._found = found

    def answers(self, run: int, advance: Callable[[], None] | None = None) -> list[Answer]:
        return self._found(run)


def measured(found: Callable[[int], list[Answer]], point: DesignPoint = POINT) -> Record:
    return measure_load(cast(EndpointSubject, Answering(found)), point)


def twenty(run: int = 0) -> list[Answer]:
    return [answered(float(number)) for number in range(20)]


def test_both_ends_are_left_out() -> None:
    steady = steady_part(twenty(), clients=2)
    assert [answer.asked_s for answer in steady.answers] == [float(number) for number in range(2, 18)]
    assert (steady.start_s, steady.end_s, steady.is_whole) == (2.0, 19.0, False)
    assert len(steady_part(twenty(), clients=5).answers) == 10
    assert len(steady_part(twenty() * 5, clients=1).answers) == 80


@pytest.mark.parametrize("answers", [twenty()[:4], [answered(0.0)] * 20, [failed(0.0)], []])
def test_too_few_or_all_at_once_are_counted_whole_and_said_to_be(answers: list[Answer]) -> None:
    steady = steady_part(answers, clients=2)
    assert steady.is_whole and list(steady.answers) == answers


def test_times_are_those_of_the_steady_requests() -> None:
    record = measured(lambda run: [answered(float(number), 9.0 if number in (0, 19) else 0.2) for number in range(20)])
    assert record.metrics["ttft_s"] == pytest.approx(0.2) and record.metrics["ttft_p99_s"] == pytest.approx(0.2)
    assert record.metrics["tpot_s"] == pytest.approx(0.1)
    assert record.metrics["e2e_s"] == pytest.approx(0.6)
    assert record.metrics["itl_p50_s"] == pytest.approx(0.1) and record.metrics["itl_p99_s"] == pytest.approx(0.1)
    assert len(record.samples["ttft_s"]) == 3 * 16


def test_rates_count_what_was_done_in_the_steady_part() -> None:
    metrics = measured(twenty).metrics
    # From 2 s to 19 s: the requests of 2 to 18 s are whole, that of 19 s has nothing yet.
    assert metrics["requests_per_s"] == pytest.approx(17 / 17)
    assert metrics["decode_tokens_per_s"] == pytest.approx(17 * 5 / 17)
    assert metrics["prefill_tokens_per_s"] == pytest.approx(17 * 10 / 17)
    assert metrics["goodput_requests_per_s"] == pytest.approx(1.0)


def test_an_answer_counts_for_the_part_of_it_that_came_in_time() -> None:
    run = LoadRun(long := [answered(float(number), 0.0, 16) for number in range(20)], steady_part(long, 2), {})
    # Each takes 1.5 s: of the ones before 2 s, what came later counts; of the last two, what came until 19 s.
    inside = sum(2.0 <= time <= 19.0 for answer in long for time in answer.pieces_s)
    assert run.rates["decode_tokens_per_s"] == pytest.approx(inside / 17)


def test_goodput_leaves_out_what_breaks_the_promise() -> None:
    def found(run: int) -> list[Answer]:
        return [answered(float(number), 0.6 if number % 2 else 0.2) for number in range(20)]

    metrics = measured(found).metrics
    assert metrics["requests_per_s"] == pytest.approx(18 / 17)  # that of 1 s ends at 2 s
    assert metrics["goodput_requests_per_s"] == pytest.approx(9 / 17)
    no_promise = replace(POINT, workload=replace(POINT.workload, slo=None))
    assert "goodput_requests_per_s" not in measured(found, no_promise).metrics


def test_failures_are_counted_by_their_status_and_have_no_times() -> None:
    def found(run: int) -> list[Answer]:
        answers = twenty()
        answers[4], answers[5], answers[6] = failed(4.0), failed(5.0, "cut"), replace(answered(6.0), refused=3)
        return answers

    record = measured(found)
    assert record.errors == {"429": 3, "cut": 3, "429 retried": 9}
    assert record.metrics["failed_share"] == pytest.approx(0.1)
    assert record.metrics["requests_per_s"] == pytest.approx(15 / 17)
    assert len(record.samples["ttft_s"]) == 3 * 14


def test_where_nothing_was_answered_there_is_no_record() -> None:
    with pytest.raises(EndpointError, match=r"no request had an answer \(60 x 429\): too many"):
        measured(lambda run: [failed(float(number)) for number in range(20)])


def test_what_a_server_does_not_tell_has_no_metric() -> None:
    record = measured(twenty)
    unknown = {name for name in METRICS if name.endswith("bytes")} | {"bits_per_weight", "kv_bytes_per_token"}
    assert not unknown & set(record.metrics) and record.predicted == {}
    assert Record.from_json(record.to_json()) == record


def test_intervals_are_from_run_to_run() -> None:
    record = measured(lambda run: [answered(float(number), 0.2 + 0.1 * run) for number in range(20)])
    assert record.intervals["ttft_s"] == pytest.approx([0.2, 0.4])
    one = replace(POINT, workload=replace(POINT.workload, num_runs=1))
    assert measured(twenty, one).intervals == {}


def test_the_record_says_how_far_to_trust_it() -> None:
    facts = measured(twenty).environment
    assert (facts["served_model"], facts["tokens_counted_by"], facts["requests"]) == ("tiny", "usage", 60)
    assert (facts["counted_requests"], facts["steady_is_whole_run"], facts["tokens_per_piece"]) == (48, False, 1.0)
    assert facts["sent_late_p99_s"] == pytest.approx(0.001)


def test_many_times_between_tokens_are_thinned_and_keep_their_percentiles() -> None:
    def found(run: int) -> list[Answer]:
        return [answered(float(number), 0.2, 1000 + number) for number in range(20)]

    record = measured(found)
    assert len(record.samples["itl_s"]) == 5000
    assert record.metrics["itl_p99_s"] == pytest.approx(0.1)


def test_repeats_are_one_record() -> None:
    first, second = measured(twenty), measured(lambda run: [*twenty()[:19], failed(19.0)])
    both = joined([first, second])
    assert both.errors == {"429": 3} and both.metrics["failed_share"] == pytest.approx(0.025)
    assert len(both.samples["ttft_s"]) == 96 and both.environment["repeats"] == 2


def test_a_row_of_the_table_has_no_column_for_memory(tmp_path: Path) -> None:
    (path,) = write_load_table([measured(lambda run: [failed(0.0), *twenty()[1:]])], tmp_path)
    other = replace(POINT, workload=replace(POINT.workload, concurrency=4))
    write_load_table([measured(twenty, other)], tmp_path, keep=True)
    header, *rows = path.read_text().splitlines()
    assert "bytes" not in header and len(rows) == 2
    assert "3 x 429" in rows[0]


def test_summaries_bear_what_is_missing() -> None:
    nothing: dict[str, Any] = {name: [] for name in ("tpot_s", "itl_s")}
    samples = {**measured(twenty).samples, **nothing}
    assert "tpot_s" not in summarize_load(samples) and "itl_p99_s" not in summarize_load(samples)


def test_a_promise_is_read_or_its_mistake_is_named() -> None:
    assert parse_slo("ttft_s=0.5; tpot_s = 0.05") == {"ttft_s": 0.5, "tpot_s": 0.05}
    for wrong, says in (("", "it promises nothing"), ("ttft_s=1;ttft_s=2", "set twice"), ("e2e_s=-1", "no time")):
        with pytest.raises(ConfigError, match=says):
            parse_slo(wrong)
