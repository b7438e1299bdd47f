"""A server in a study: nothing is built or planned, and what it does not tell stays unknown."""

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_executor import QUALITY, FakeExecutor
from run_fake_study import Silent, at_rest

from kvscape.analysis.device import Device
from kvscape.analysis.roofline import DeviceRates
from kvscape.config import DesignPoint
from kvscape.errors import ConfigError
from kvscape.results import Record
from kvscape.study import Space, Store, Study, parse_space
from kvscape.study.budget import Budget
from kvscape.study.builds import known_builds
from kvscape.study.flags import bench_arguments, ppl_arguments, shipping_commands
from kvscape.study.key import quality_key
from kvscape.study.outlook import look_ahead
from kvscape.study.predictor import Predictor
from kvscape.study.recommend import recommend

TEXT = """
    base = {endpoint = "http://here:1", model = "tiny", duration_s = 10}
    axes = {subject = ["endpoint", "kvscape"], kv_dtype = ["f16", "int8"]}
"""


class Serving(FakeExecutor):
    """A server's record has no bytes."""

    def bench(self, point: DesignPoint) -> Record:
        record = super().bench(point)
        if point.subject != "endpoint":
            return record
        metrics = {name: value for name, value in record.metrics.items() if name != "total_bytes"}
        return replace(record, metrics={**metrics, "failed_share": 0.0})


def space(
    text: str = 'base = {endpoint = "http://here:1", model = "m"}\naxes = {subject = "endpoint", concurrency = [1, 4]}',
) -> Space:
    return parse_space(tomllib.loads(text), Path("s.toml"))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "home"))
    with Store(tmp_path / "study.sqlite") as opened:
        yield opened


def run(what: Space, store: Store, executor: FakeExecutor) -> list[Record]:
    return Study(what, store, executor, Silent(), available_bytes=lambda device: 1, reference=at_rest).run()


def test_nothing_is_built_or_planned_and_quality_is_scored_once(store: Store) -> None:
    executor = Serving()
    records = run(replace(space(), quality=QUALITY), store, executor)
    assert [record.parameters["concurrency"] for record in records] == [1, 4]
    assert [verb for verb, _ in executor.asked] == ["bench", "ppl", "bench"]
    assert all("total_bytes" not in record.metrics and record.metrics["perplexity"] == 28.0 for record in records)
    run(replace(space(), quality=QUALITY), store, executor)
    assert len(executor.asked) == 3  # all is kept


def test_another_servers_quality_is_its_own() -> None:
    (one, _) = space().points
    other = replace(one, server=replace(one.server, endpoint="http://there:1"))
    assert quality_key(one, None, QUALITY) != quality_key(other, None, QUALITY)
    assert "http://here:1" in ppl_arguments(one, QUALITY)


def test_knobs_of_others_are_not_the_servers() -> None:
    read = space(TEXT.replace(", duration_s = 10", ""))
    chosen = [(point.subject, point.engine.kv_dtype, point.server.endpoint) for point in read.points]
    assert chosen == [("endpoint", "f16", "http://here:1"), ("kvscape", "f16", None), ("kvscape", "int8", None)]


def test_a_workload_that_only_a_server_has_leaves_the_others_out() -> None:
    read = space(TEXT)
    assert [point.subject for point in read.points] == ["endpoint"]
    assert "duration_s = 10.0: the subject kvscape runs in this process" in read.excluded[0].reason


def test_a_server_alone_may_be_said_to_run_something() -> None:
    read = space(
        'base = {subject = "endpoint"}\naxes = {"endpoint, kv_dtype" = [["http://a", "f16"], ["http://b", "int8"]]}'
    )
    assert [point.engine.kv_dtype for point in read.points] == ["f16", "int8"]


def test_its_commands_measure_it_again_and_nothing_else() -> None:
    (one, _) = space().points
    assert shipping_commands(one) == [
        "kvscape bench --model m --quantization auto --concurrency 1 --endpoint http://here:1 --subject endpoint"
    ]
    assert "--api-key" not in bench_arguments(one)


def test_it_is_counted_before_anything_runs(store: Store) -> None:
    builds = known_builds(space().points, FakeExecutor(), Silent(), store)
    ahead = look_ahead(space(), builds, store, lambda device: 1, rates=lambda *_: DeviceRates(1e9, 1e9))
    assert (ahead.feasible, ahead.to_measure, ahead.infeasible) == (2, 2, ())


def test_nothing_is_predicted_of_it() -> None:
    predictor = Predictor.fit([], [], lambda device: Device("here", 2, 2e10, 4e11, 1e11, 3e-6), lambda point: None)
    assert [record.reason for record in predictor.predict(space().points)] == ["nothing is predicted of a server"] * 2


def test_a_recommendation_bears_what_is_not_known(store: Store) -> None:
    records = run(space(), store, Serving())
    answer = recommend(records, Budget(min_decode_tokens_per_s=50))
    assert answer.status == "met" and answer.elsewhere == () and "total_bytes" not in answer.metrics
    assert recommend(records, Budget(max_total_bytes=10)).status == "not_met"
    assert recommend(records, Budget(objective="memory")).status == "met"


def test_a_cluster_measures_no_server(store: Store) -> None:
    study = Study(space(), store, Serving(), Silent(), slots=[object()])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="leave --ray out"):
        study.run()
