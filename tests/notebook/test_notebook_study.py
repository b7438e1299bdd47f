"""A study that was measured, as one object: frame, front, recommendation, charts, page."""

from dataclasses import replace
from pathlib import Path

import pytest

import kvscape
from kvscape import Space, Study
from kvscape.errors import ConfigError, ResultsError
from kvscape.study import Store
from kvscape.study.predictions import write_predictions
from made_records import made_perplexities, made_records


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("notebook")
    with Store(folder / "study.sqlite") as store:
        for number, record in enumerate(made_records()):
            known = replace(record, intervals={"ttft_s": [0.15, 0.17]}, predicted={"ttft_s": 0.2})
            store.put(f"speed-{number}", known)
        store.put("quality", made_perplexities()[0])
        store.set_points("made", [(f"speed-{number}", "quality") for number in range(len(made_records()))])
    return Study.open(folder)


def test_the_frame_has_a_row_for_each_point_in_base_units(study: Study) -> None:
    frame = study.frame()
    assert frame.height == len(made_records())
    first = frame.row(0, named=True)
    assert (first["ttft_s"], first["ttft_s_low"], first["ttft_s_high"]) == (0.16, 0.15, 0.17)
    assert first["ttft_s_predicted"] == 0.2 and first["kv_cache_bytes"] == 1024 * 23040
    assert frame["status"].to_list()[-1] == "infeasible" and frame["total_bytes"].null_count() == 1


def test_the_front_is_a_part_of_the_frame(study: Study) -> None:
    assert 0 < study.front().height < study.frame().height


def test_a_recommendation_keeps_its_limits(study: Study) -> None:
    answer = study.recommend(max_memory="200 MiB", min_decode_tokens_per_s=100)
    assert answer.status == "met" and answer.metrics["total_bytes"] <= 200 * 2**20


def test_an_unknown_limit_names_the_near_match(study: Study) -> None:
    with pytest.raises(ConfigError, match="did you mean 'min_decode_tokens_per_s'"):
        study.recommend(min_decode_token_per_s=100)


def test_what_was_predicted_of_other_points_stands_below(study: Study) -> None:
    told = replace(made_records()[0], metrics={}, predicted={"ttft_s": 0.3}, status="predicted")
    other = replace(told, parameters={**told.parameters, "prefill_chunk_size": 64})
    path = write_predictions(Path(study.folder), "made", [other])
    last = study.frame().row(-1, named=True)
    assert (last["status"], last["prefill_chunk_size"], last["ttft_s_predicted"]) == ("predicted", 64, 0.3)
    path.unlink()


def test_charts_are_altairs_and_name_the_point_that_is_marked(study: Study) -> None:
    point = study.records[2].parameters
    spec = study.charts.marking(point).pareto().to_dict()
    (rows,) = spec["datasets"].values()
    assert [row["id"] for row in rows if row["recommended"]] == [2]
    for chart in (study.charts.shares(), study.charts.effects(), study.charts.prediction("ttft_s")):
        assert chart.to_dict()["config"]["font"]


def test_what_cannot_be_drawn_is_said(study: Study) -> None:
    with pytest.raises(ResultsError, match="nothing to plot"):
        study.charts.prediction("perplexity")
    with pytest.raises(ConfigError, match="did you mean 'kv_dtype'"):
        study.charts.throughput("kv_dtyp")


def test_a_study_that_is_not_there_is_said(study: Study, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'made'"):
        Study.open(study.folder, "mode")
    with pytest.raises(ResultsError, match=r"no study\.sqlite"):
        Study.open(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_space_comes_from_a_file_or_from_its_tables(tmp_path: Path) -> None:
    (tmp_path / "kv.toml").write_text('[axes]\nkv_dtype = ["f16", "int8"]\n')
    read, made = Space.read(tmp_path / "kv.toml"), Space.of(name="kv", axes={"kv_dtype": ["f16", "int8"]})
    assert read.points == made.points and read.name == made.name == "kv"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sturdy'"):
        kvscape.Sturdy  # noqa: B018
