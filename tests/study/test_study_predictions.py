import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_study_predictor import drawn, facts, here, measured

from kvscape.cli.main import run
from kvscape.config import DesignPoint
from kvscape.errors import ResultsError
from kvscape.study import recommend
from kvscape.study.budget import Budget
from kvscape.study.executor import ProcessExecutor
from kvscape.study.model_facts import ModelFacts
from kvscape.study.predictions import joined, predict_points, read_predictions, write_predictions
from kvscape.study.store import Store

POINTS = drawn(40)
RECORDS = measured(POINTS[:24])


def test_every_point_has_a_prediction_and_no_measurement() -> None:
    predictions = predict_points(POINTS, RECORDS, [], here, facts)
    assert {json.dumps(p.parameters) for p in predictions} == {json.dumps(point.flat()) for point in POINTS}
    assert all((p.status, p.metrics) == ("predicted", {}) for p in predictions)


def test_a_measured_point_keeps_its_figures_and_gets_those_that_the_others_predict() -> None:
    predictions = predict_points(POINTS, RECORDS, [], here, facts)
    beside, rest = joined(RECORDS, predictions)
    assert [record.metrics for record in beside] == [record.metrics for record in RECORDS]
    for record in beside:
        ratio = record.predicted["decode_tokens_per_s"] / record.metrics["decode_tokens_per_s"]
        assert ratio != 1 and ratio == pytest.approx(1, abs=0.3)
    assert [record.parameters for record in rest] == [point.flat() for point in POINTS[24:]]


def test_a_point_that_cannot_run_is_no_prediction() -> None:
    impossible = DesignPoint.from_flat({"context_window_size": 100_000})
    predictions = predict_points([impossible], RECORDS, [], here, facts)
    assert predictions[-1].status == "infeasible" and "made for 8192 tokens" in predictions[-1].reason
    assert joined(RECORDS, predictions)[1] == []


def test_failed_records_stay_as_they_are() -> None:
    failed = replace(RECORDS[0], status="failed", metrics={})
    assert joined([failed], predict_points(POINTS, RECORDS, [], here, facts))[0] == [failed]


def test_predictions_survive_their_file(tmp_path: Path) -> None:
    predictions = predict_points(POINTS, RECORDS, [], here, facts)
    path = write_predictions(tmp_path, "made", predictions)
    assert path.name == "predictions_made.jsonl"
    assert read_predictions(tmp_path, "made") == predictions
    assert read_predictions(tmp_path, "other") == []
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ResultsError, match="or run 'kvscape predict' again"):
        read_predictions(tmp_path, "made")


def test_an_unmeasured_point_may_be_recommended_and_says_so() -> None:
    beside, rest = joined(RECORDS, predict_points(POINTS, RECORDS, [], here, facts))
    single = next(record for record in beside if record.parameters["max_batch_size"] == 1)
    answer = recommend([single, *rest], Budget(concurrency=4))
    assert answer.point in [record.parameters for record in rest]
    assert answer.confidence is not None and answer.intervals is not None
    assert (answer.confidence["tpot_s"], answer.confidence["total_bytes"]) == ("predicted", "predicted")
    assert answer.intervals["tpot_s"][0] < answer.metrics["tpot_s"] < answer.intervals["tpot_s"][1]


@pytest.fixture
def known_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds and the machine are known; points are measured by the made-up machine, and nobody waits for a turn."""
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "home"))

    def build(self: ProcessExecutor, point: DesignPoint) -> ModelFacts:
        known = facts(point)
        assert known is not None
        return known

    monkeypatch.setattr(ProcessExecutor, "build", build)
    monkeypatch.setattr(ProcessExecutor, "bench", lambda self, point: measured([point])[0])
    monkeypatch.setattr("kvscape.study.predict_space.find_device", lambda device: here(device))
    monkeypatch.setattr("kvscape.bench.reference._seconds", lambda call: 0.05)


@pytest.mark.usefixtures("known_builds")
def test_the_command_predicts_a_space(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(tmp_path / "study.sqlite") as store:
        for number, record in enumerate(RECORDS):
            store.put(f"key-{number}", record)
        store.set_points("made", [(f"key-{number}", None) for number in range(24)])
    file = tmp_path / "space.toml"
    file.write_text('name = "made"\n[axes]\nkv_dtype = ["f16", "int8"]\nmax_batch_size = [1, 2, 4, 1000000]\n')
    assert run(["predict", str(file), "--out", str(tmp_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["measured"], answer["predicted"], answer["infeasible"]) == (24, 24 + 6, 2)
    assert 0 < answer["mean_errors"]["decode_tokens_per_s"] < 0.1
    assert len(answer["points"]) == 24 + 8
    assert run(["recommend", str(tmp_path), "--concurrency", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["point"]["max_batch_size"] == 4
    assert run(["predict", str(file), "--out", str(tmp_path)]) == 0
    assert "30 points predicted from 24 measured ones, 2 cannot run here" in capsys.readouterr().out


@pytest.mark.usefixtures("known_builds")
def test_a_study_predicts_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kvscape.cli.study.write_report", lambda *_: [])
    axes = ["--axis", "max_batch_size=1,2,4", "--axis", "kv_dtype=f16,int8", "--axis", "prefill_chunk_size=64,128"]
    command = ["study", *axes, "--search", "random", "--points", "5", "--predict", "--out", str(tmp_path), "--quiet"]
    assert run([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["points"]) == 5
    assert all(point["predicted_intervals"] for point in answer["points"])
    assert str(tmp_path / "predictions_study.jsonl") in answer["files"]
    assert len(read_predictions(tmp_path, "study")) == 12
