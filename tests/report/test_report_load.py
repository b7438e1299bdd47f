"""Figures of loads: each percentile of each measure, against clients or rate, in milliseconds."""

from pathlib import Path
from typing import Any

import pytest

from kvscape.config import DesignPoint, EndpointConfig, Workload
from kvscape.errors import ResultsError
from kvscape.report.frame import read_csv
from kvscape.report.load import load_figures
from kvscape.report.points import point_frame
from kvscape.report.study_figures import LOAD, study_figures
from kvscape.report.tables import cells
from kvscape.results import Record
from kvscape.results.load_table import METRICS, write_load_table
from made_records import made_records


def record(port: int = 1, **work: Any) -> Record:
    clients = work.get("concurrency") or 1
    point = DesignPoint(
        workload=Workload(**work), subject="endpoint", server=EndpointConfig(endpoint=f"http://here:{port}")
    )
    metrics = {name: 0.1 * clients * (2 if name.endswith("p99_s") else 1) for name in METRICS}
    return Record(point.flat(), metrics, {}, {}, {})


def figures(folder: Path, *records: Record) -> dict[str, list[dict[str, Any]]]:
    (path,) = write_load_table(records, folder)
    return {one.name: one.spec["datasets"]["points"] for one in load_figures(read_csv([path]))}


def test_latency_and_throughput_are_drawn_against_the_clients(tmp_path: Path) -> None:
    drawn = figures(tmp_path, *(record(concurrency=clients) for clients in (16, 1, 4)))
    assert list(drawn) == ["load_latency_vs_concurrency", "load_throughput_vs_concurrency"]
    latency, throughput = drawn.values()
    assert len(latency) == 3 * 4 * 4 and [row["concurrency"] for row in throughput[::3]] == [1, 4, 16]
    worst = [row["ms"] for row in latency if row["percentile"] == "p99" and row["concurrency"] == 4]
    assert worst == pytest.approx([800] * 4)


def test_a_rate_has_figures_of_its_own(tmp_path: Path) -> None:
    drawn = figures(tmp_path, record(concurrency=2), record(request_rate=0.5, num_requests=9))
    assert len(drawn) == 4
    assert {row["request_rate"] for row in drawn["load_latency_vs_request_rate"]} == {0.5}


def test_two_servers_are_two_lines(tmp_path: Path) -> None:
    drawn = figures(tmp_path, record(1, concurrency=2), record(2, concurrency=2))
    series = {row["series"] for row in drawn["load_throughput_vs_concurrency"]}
    assert series == {"http://here:1", "http://here:2"}


def test_a_studys_page_has_servers_beside_what_runs_here() -> None:
    servers, here = [record(concurrency=clients) for clients in (1, 4)], made_records()
    sections = study_figures([*here, *servers])
    assert [one.name for one in sections[LOAD]] == ["load_latency_vs_concurrency", "load_throughput_vs_concurrency"]


def test_what_a_server_runs_is_not_claimed_to_be_known() -> None:
    frame = point_frame([record(concurrency=1), made_records()[0]])
    assert frame["quantization"][0] == frame["kv_dtype"][0] == "not known"
    assert frame["total_bytes"][0] is None and frame["quantization"][1] != "not known"
    table = cells([record(concurrency=1), record(concurrency=2)])
    assert "clients" in table.headings and table.rows[0][0] == "not known" and "memory" not in table.headings


def test_they_can_be_drawn(tmp_path: Path) -> None:
    (path,) = write_load_table([record(concurrency=clients, slo="ttft_s=1") for clients in (1, 2)], tmp_path)
    for one in load_figures(read_csv([path])):
        assert one.content("svg").startswith(b"<svg")


def test_a_load_of_which_nothing_is_said_had_one_client(tmp_path: Path) -> None:
    drawn = figures(tmp_path, record(), record(concurrency=4))
    assert {row["concurrency"] for row in drawn["load_throughput_vs_concurrency"]} == {1, 4}


def test_a_table_without_clients_or_rate_is_said(tmp_path: Path) -> None:
    (path,) = write_load_table([record()], tmp_path)
    with pytest.raises(ResultsError, match="no row says its clients or its rate"):
        load_figures(read_csv([path]).drop("concurrency", "request_rate"))
