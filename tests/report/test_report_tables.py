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
