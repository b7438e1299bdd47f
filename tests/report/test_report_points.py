"""One frame for all linked figures: measured where it ran, predicted where it did not, in shown units."""

from dataclasses import replace

import pytest

from kvscape.errors import ResultsError
from kvscape.report.encodings import ordered
from kvscape.report.page_data import study_data
from kvscape.report.points import known, moving, point_frame
from kvscape.report.variance import effects
from kvscape.results import Record
from made_records import made_records

RECORDS = made_records()


def predicted(record: Record) -> Record:
    told, interval = {"decode_tokens_per_s": 140.0}, {"decode_tokens_per_s": [120.0, 160.0]}
    return replace(record, metrics={}, predicted=told, predicted_intervals=interval, status="predicted")


def test_what_was_measured_is_in_shown_units() -> None:
    row = point_frame(RECORDS).row(0, named=True)
    assert row["origin"] == "measured"
    assert row["ttft_s"] == 160.0
    assert row["kv_cache_bytes"] == pytest.approx(22.5)


def test_a_prediction_stands_in_where_nothing_was_measured() -> None:
    row = point_frame([predicted(RECORDS[0])]).row(0, named=True)
    assert (row["origin"], row["decode_tokens_per_s"]) == ("predicted", 140.0)
    assert (row["decode_tokens_per_s_low"], row["decode_tokens_per_s_high"]) == (120.0, 160.0)
    assert row["total_bytes"] is None


def test_a_measured_point_keeps_its_prediction_beside_it() -> None:
    row = point_frame([replace(predicted(RECORDS[0]), metrics=RECORDS[0].metrics, status="ok")]).row(0, named=True)
    assert (row["decode_tokens_per_s"], row["decode_tokens_per_s_predicted"]) == (150.0, 140.0)
    assert row["decode_tokens_per_s_predicted_low"] == 120.0


def test_the_interval_is_the_records_own_or_the_range_of_its_runs() -> None:
    runs = replace(RECORDS[0], samples={"decode_tokens_per_s": [140.0, 155.0, 150.0]})
    own = replace(runs, intervals={"decode_tokens_per_s": [145.0, 152.0]})
    frame = point_frame([RECORDS[0], runs, own])
    assert frame["decode_tokens_per_s_low"].to_list() == [None, 140.0, 145.0]
    assert frame["decode_tokens_per_s_high"].to_list() == [None, 155.0, 152.0]


def test_points_of_one_context_and_batch_are_one_workload() -> None:
    frame = point_frame(RECORDS, point=RECORDS[1].parameters)
    assert frame["workload"].n_unique() == 5  # the point that could not run asks for a fifth
    assert frame.row(1, named=True)["workload"] == "context 1,024 · batch 4"
    assert set(frame.filter("home")["workload"]) == {"context 1,024 · batch 4"}


def test_a_rate_of_requests_is_part_of_the_workload() -> None:
    spread = replace(RECORDS[0], parameters={**RECORDS[0].parameters, "request_rate": 0.5, "num_requests": 8})
    frame = point_frame([RECORDS[0], spread])
    assert frame["workload"].to_list() == ["", "requests 8 · requests/s 0.5"]


def test_only_what_ran_says_which_knobs_move() -> None:
    assert moving(point_frame(RECORDS)) == ["quantization", "kv_dtype", "context_window_size", "max_batch_size"]


def test_no_records_and_no_measures_are_said() -> None:
    with pytest.raises(ResultsError, match="nothing to plot"):
        point_frame([])
    with pytest.raises(ResultsError, match="no point has all of total_bytes"):
        known(point_frame(RECORDS[-1:]), "total_bytes")


def test_a_workload_of_several_parameters_is_one_knob_and_moves_what_it_moves() -> None:
    asked = ((64, 32), (512, 32), (512, 256))
    ran = [
        replace(
            record,
            parameters={**record.parameters, "prompt_tokens": prompt, "max_tokens": output},
            metrics={**record.metrics, "ttft_s": 1e-3 * prompt},
        )
        for record in made_records()[:-1]
        for prompt, output in asked
    ]
    frame = point_frame(ran)
    assert "asked" in moving(frame) and "prompt_tokens" not in moving(frame)
    assert ordered("asked", frame) == [f"prompt {prompt} · output {output}" for prompt, output in asked]
    told = effects(frame, "ttft_s", moving(frame))
    assert told is not None and told.shares["asked"] == pytest.approx(1.0)


def test_what_is_left_to_its_default_is_a_value_too() -> None:
    ran = [
        replace(
            record, parameters={**record.parameters, "threads": threads}, metrics={**record.metrics, "ttft_s": ttft}
        )
        for record in made_records()[:-1]
        for threads, ttft in ((None, 0.1), (2, 0.2))
    ]
    frame = point_frame(ran)
    assert ordered("threads", frame) == [None, 2]
    told = effects(frame, "ttft_s", moving(frame))
    assert told is not None and told.shares["threads"] == pytest.approx(1.0)
    assert [level for level, _ in told.levels["threads"]] == [None, 2]
    axis = next(axis for axis in study_data(frame)["axes"] if axis["name"] == "threads")
    assert axis["levels"] == [None, 2]
