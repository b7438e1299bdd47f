"""CSV files and records become the same frame; what a plot lacks is said in one line."""

from pathlib import Path

import pytest

from kvscape.errors import ResultsError
from kvscape.report.frame import from_perplexities, from_records, plotted, read_csv, varying
from kvscape.results.tables import write_perplexity_table, write_record_tables
from made_records import made_perplexities, made_records


def results_csv(folder: Path) -> Path:
    paths = write_record_tables(made_records(), folder)
    return next(path for path in paths if "results" in path.name and "q8f16_1" in path.name)


def test_a_csv_gives_the_numbers_of_the_records(tmp_path: Path) -> None:
    from_file = read_csv([results_csv(tmp_path)])
    made = [record for record in made_records() if record.parameters["quantization"] == "q8f16_1"]
    assert from_file["kv_cache_bytes"].to_list() == [record.metrics["kv_cache_bytes"] for record in made]
    assert from_file["context_window_size"].to_list() == [record.parameters["context_window_size"] for record in made]


def test_several_files_stand_below_each_other(tmp_path: Path) -> None:
    paths = [path for path in write_record_tables(made_records(), tmp_path) if "results" in path.name]
    assert read_csv(paths).height == len(made_records())


def test_what_was_not_measured_is_not_plotted() -> None:
    assert plotted(from_records(made_records()), ["total_bytes"]).height == len(made_records()) - 1


def test_a_number_that_is_none_is_not_plotted(tmp_path: Path) -> None:
    first, *rest = made_perplexities()
    lost = type(first)(**{**first.to_json(), "perplexity": float("nan")})
    assert plotted(from_perplexities([lost, *rest]), ["perplexity"]).height == len(rest)
    write_perplexity_table([lost, *rest], tmp_path / "ppl.csv")
    assert plotted(read_csv([tmp_path / "ppl.csv"]), ["perplexity"]).height == len(rest)


def test_calibrated_weights_stand_apart_from_plain_ones(tmp_path: Path) -> None:
    plain = made_perplexities()[0]
    parameters = {**plain.parameters, "quantization": "q4f16_1"}
    texts = (None, "self", "texts/own.txt")
    records = [type(plain)(**{**plain.to_json(), "parameters": {**parameters, "calibrate": text}}) for text in texts]
    write_perplexity_table(records, tmp_path / "ppl.csv")
    for frame in (from_perplexities(records), read_csv([tmp_path / "ppl.csv"])):
        assert frame["quantization"].to_list() == ["q4f16_1", "q4f16_1, self", "q4f16_1, own.txt"]


def test_varying_names_the_parameters_that_differ() -> None:
    assert varying(from_records(made_records())) == [
        "quantization", "kv_dtype", "context_window_size", "max_batch_size",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "it does not exist"),
        ("", "has no header line"),
        ("quantization,kv_dtype\n", "has a header and no rows"),
    ],
)
def test_a_missing_or_empty_file_is_said(tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "kv_cache_dse_results_x.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ResultsError, match=says) as caught:
        read_csv([path])
    assert str(path) in str(caught.value)


def test_bytes_that_are_no_text_are_said(tmp_path: Path) -> None:
    path = tmp_path / "picture.csv"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe\x00,\xff\n1,2,3,4,5\n")
    with pytest.raises(ResultsError, match="not a CSV table"):
        read_csv([path])


def test_a_missing_column_is_named() -> None:
    frame = from_records(made_records()).drop("kv_cache_bytes")
    with pytest.raises(ResultsError, match="no column 'kv_cache_bytes'"):
        plotted(frame, ["quantization", "kv_cache_bytes"], "x.csv")


def test_no_row_left_is_said() -> None:
    frame = from_records(made_records()[-1:] + made_records()[:1]).filter(status="infeasible")
    with pytest.raises(ResultsError, match=r"x\.csv has no rows to plot"):
        plotted(frame, ["total_bytes"], "x.csv")


@pytest.mark.parametrize(("name", "value"), [("total_bytes", "many"), ("max_batch_size", "inf"), ("ttft_s", "0,5")])
def test_a_word_in_the_place_of_a_number_is_named_with_its_line(name: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "made.csv"
    path.write_text(f'quantization,{name}\nauto,\nauto,7\nauto,"{value}"\n')
    with pytest.raises(ResultsError, match=f"{name} = '{value}' in line 4 of .*made.csv: it is no number"):
        read_csv([path])


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="it is a folder; give the files in it"):
        read_csv([tmp_path])
