"""The table shows what varies, in units, with the front in bold."""

from dataclasses import replace
from io import StringIO

from rich.console import Console

from kvscape.report.tables import cells, markdown_table, terminal_table
from made_records import made_records


def test_only_what_varies_has_a_column() -> None:
    headings = cells(made_records()[:-1]).headings
    assert headings[:4] == ["quantization", "KV", "context", "batch"]
    assert "chunk" not in headings


def test_two_subjects_are_told_apart() -> None:
    ours = made_records()[0]
    peers = replace(ours, parameters={**ours.parameters, "subject": "llamacpp"})
    table = cells([ours, peers])
    assert table.headings[0] == "subject" and not table.numeric[0]
    assert [row[0] for row in table.rows] == [ours.parameters["subject"], "llamacpp"]


def test_numbers_are_in_the_units_of_the_headings() -> None:
    table = cells(made_records())
    row = dict(zip(table.headings, table.rows[0], strict=True))
    assert row["KV cache"] == f"{1024 * 23040 / 2**20:.1f}"
    assert row["TTFT"] == "160.0"
    assert dict(zip(table.headings, table.units, strict=True))["KV cache"] == "MiB"


def test_markdown_has_a_line_for_each_point_and_says_why() -> None:
    records = made_records()
    lines = markdown_table(cells(records, records[:1])).splitlines()
    assert len(lines) == len(records) + 2
    assert lines[2].startswith("| **auto** |") and lines[3].startswith("| auto |")
    assert lines[-1].endswith("infeasible: it needs <more> memory |")


def test_the_terminal_shows_every_point() -> None:
    out = StringIO()
    Console(file=out, width=160).print(terminal_table(cells(made_records())))
    assert len(out.getvalue().splitlines()) == len(made_records()) + 2


def test_points_that_differ_in_a_rare_knob_or_in_their_workload_are_told_apart() -> None:
    one = made_records()[0]
    threads = [replace(one, parameters={**one.parameters, "threads": n, "prefix_cache": n == 1}) for n in (1, 2)]
    table = cells(threads)
    assert table.headings[2:4] == ["prefix cache", "threads"]
    assert [row[2:4] for row in table.rows] == [["on", "1"], ["off", "2"]]
    asked = [replace(one, parameters={**one.parameters, "prompt_tokens": n, "request_rate": rate})
             for n, rate in ((1024, None), (64, 2.5))]  # fmt: skip
    assert [row[2] for row in cells(asked).rows] == ["prompt 1,024", "prompt 64 · requests/s 2.5"]
    one_by_one = cells([replace(one, parameters={**one.parameters, "prompt_tokens": n}) for n in (1024, 64)])
    assert (one_by_one.headings[2], one_by_one.numeric[2]) == ("prompt", True)


def test_records_of_two_machines_are_told_apart() -> None:
    one, *_ = made_records()
    records = [replace(one, environment={**one.environment, "machine": name}) for name in ("here", "there")]
    assert [row[2] for row in cells(records).rows] == ["here", "there"]
    told = replace(one, environment={}, status="predicted")
    assert "machine" not in cells([records[0], told]).headings
