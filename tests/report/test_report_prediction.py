"""How wrong predictions were: figures and sentences from the records' own numbers."""

from dataclasses import replace

import pytest

from kvscape.report.points import point_frame
from kvscape.report.prediction import inside, mean_error, prediction_figures
from kvscape.report.trust import spread, trust
from kvscape.results import Record
from made_records import made_records


def foretold(record: Record, ratio: float) -> Record:
    speed = record.metrics["decode_tokens_per_s"] * ratio
    return replace(
        record,
        predicted={"decode_tokens_per_s": speed},
        predicted_intervals={"decode_tokens_per_s": [speed * 0.9, speed * 1.1]},
        samples={"decode_tokens_per_s": [145.0, 150.0, 156.0]},
    )


RECORDS = [foretold(record, ratio) for record, ratio in zip(made_records(), (1.0, 1.05, 0.8, 1.15), strict=False)]
FRAME = point_frame([*RECORDS, *made_records()[5:]])


def test_the_mean_error_is_of_the_measured_value() -> None:
    assert mean_error(FRAME, "decode_tokens_per_s") == pytest.approx((0 + 0.05 + 0.2 + 0.15) / 4)
    assert mean_error(FRAME, "ttft_s") is None


def test_how_many_lie_inside_their_interval_is_counted() -> None:
    assert inside(FRAME, "decode_tokens_per_s") == (2, 4)


def test_only_what_was_foretold_has_a_figure_that_says_its_error() -> None:
    (figure,) = prediction_figures(FRAME)
    assert figure.name == "prediction_decode_tokens_per_s"
    assert "mean error 10.0% over 4 points" in figure.subtitle and "2 of 4 inside their interval" in figure.subtitle


def test_the_answer_says_how_far_to_trust_it() -> None:
    words = " ".join(trust(RECORDS[0], FRAME))
    assert "measured in 3 runs; the small numbers are the range of its runs" in words
    assert "decode speed 10.0%" in words and "2 of 4 decode speeds lay inside" in words
    assert spread(RECORDS[0], "decode_tokens_per_s") == "145.0 to 156.0"


def test_an_answer_that_was_only_predicted_says_so() -> None:
    told = replace(RECORDS[0], metrics={}, status="predicted")
    assert "predicted, not run" in trust(told, FRAME)[0]
    assert spread(told, "decode_tokens_per_s") == "135.0 to 165.0"
