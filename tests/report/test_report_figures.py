"""Figures carry the records' numbers, in their units, under the names of the seed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import vl_convert

from kvscape.errors import ResultsError
from kvscape.report.figure import Figure
from kvscape.report.frame import from_records
from kvscape.report.memory import memory_figures, quantization_compare
from kvscape.report.pareto import pareto
from kvscape.report.points import point_frame
from kvscape.report.speed import speed_figures, speed_vs
from kvscape.report.study_figures import study_figures
from kvscape.report.theme import QUANTIZATION_COLOURS, colours
from made_records import made_perplexities, made_records

FRAME = from_records(made_records())


def one_model() -> pl.DataFrame:
    return FRAME.filter(pl.col("quantization") == "q8f16_1")


def rows_with(figure: Figure, key: str) -> list[dict[str, Any]]:
    """Data rows anywhere in the specification that have ``key``."""
    found: list[dict[str, Any]] = []
    waiting: list[Any] = [figure.spec]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            found += [node] if key in node and "mark" not in node and "field" not in node else []
        waiting += list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
    return found


def test_memory_figures_have_the_names_of_the_seed() -> None:
    assert [figure.name for figure in memory_figures(one_model(), "m-q8f16_1")] == [
        "m-q8f16_1_mem_kvcache_vs_context",
        "m-q8f16_1_mem_total_vs_context",
        "m-q8f16_1_mem_kvcache_vs_sliding",
    ]


def test_the_kv_cache_is_drawn_in_mib() -> None:
    figure = memory_figures(one_model(), "m")[0]
    rows = {(r["kv_dtype"], r["context_window_size"], r["max_batch_size"]): r["kv_cache_bytes"]
            for r in rows_with(figure, "kv_cache_bytes")}  # fmt: skip
    assert rows["f16", 4096, 4] == pytest.approx(4096 * 4 * 23040 / 2**20)
    assert len(rows) == 8


def test_the_parts_of_the_total_add_up() -> None:
    figure = memory_figures(one_model(), "m")[1]
    parts = [r["mib"] for r in rows_with(figure, "mib")
             if (r["kv_dtype"], r["context_window_size"], r["max_batch_size"]) == ("int8", 1024, 1)]  # fmt: skip
    record = next(
        r for r in made_records() if r.parameters["kv_dtype"] == "int8" and r.metrics["weights_bytes"] == 137 << 20
    )
    assert sum(parts) == pytest.approx(record.metrics["total_bytes"] / 2**20)


def test_quantizations_are_compared_at_the_longest_context() -> None:
    rows = rows_with(quantization_compare(FRAME), "kv_cache_bytes")
    assert {(r["quantization"], r["kv_dtype"]) for r in rows} == {
        (q, kv) for q in ("auto", "q8f16_1") for kv in ("f16", "int8")
    }
    assert max(r["kv_cache_bytes"] for r in rows) == pytest.approx(4096 * 4 * 23040 / 2**20)


def test_every_parameter_has_throughput_and_latency() -> None:
    words = ("quantization", "kv_dtype", "context", "chunk", "batch", "sliding", "sink")
    for kind in ("throughput", "latency"):
        assert [figure.name for figure in speed_figures(FRAME, kind)] == [f"{kind}_vs_{word}" for word in words]


def test_latency_is_drawn_in_milliseconds() -> None:
    assert {r["ttft_s"] for r in rows_with(speed_vs(FRAME, "latency", "max_batch_size"), "ttft_s")} == {160.0}


def test_the_map_marks_the_front_and_the_recommendation() -> None:
    records = made_records()
    figure = pareto(point_frame(records, records[:3], records[1].parameters))
    rows = rows_with(figure, "total_bytes")
    assert sum(r["front"] for r in rows) == 3
    assert [r["total_bytes"] for r in rows if r["recommended"]] == [
        pytest.approx(records[1].metrics["total_bytes"] / 2**20)
    ]


def test_one_bad_perplexity_does_not_press_the_others_into_a_line() -> None:
    records = made_records()
    worse = replace(records[0], metrics={**records[0].metrics, "perplexity": 400.0})
    near, far = (pareto(point_frame(some), "total_bytes", "perplexity") for some in (records, [*records, worse]))
    assert '"type": "log"' not in json.dumps(near.spec) and '"type": "log"' in json.dumps(far.spec)
    assert "Perplexity, logarithmic" in far.content("svg").decode()


def test_every_figure_is_strict_json() -> None:
    sections = study_figures(made_records(), made_perplexities())
    assert list(sections) == [
        "The map", "Choices", "What moves each measure", "Memory", "Quality", "Throughput", "Latency",
    ]  # fmt: skip
    for figures in sections.values():
        for figure in figures:
            json.dumps(figure.spec, allow_nan=False)


def test_one_specification_gives_every_format(tmp_path: Path) -> None:
    figure = pareto(point_frame(made_records()))
    png, svg, page = figure.write_all(tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in svg.read_text() and "Total memory (MiB)" in svg.read_text()
    assert "<html" in page.read_text() and 'src="http' not in page.read_text()


def test_an_unknown_format_is_said(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="did you mean 'png'"):
        pareto(point_frame(made_records())).write(tmp_path / "map.pngg")


def test_a_quantization_has_one_colour_everywhere() -> None:
    assert colours(["q8f16_1"])[1] == [QUANTIZATION_COLOURS["q8f16_1"]]
    names, palette = colours(["zzz", "q8f16_1", "aaa", "auto"])
    assert names == ["auto", "q8f16_1", "aaa", "zzz"]
    assert len(set(palette)) == 4


def test_nothing_measured_is_said() -> None:
    with pytest.raises(ResultsError):
        study_figures(made_records()[-1:])


def drawn(figure: Figure, kind: str) -> list[list[dict[str, Any]]]:
    """Items of every mark of a kind, as Vega places them: its transforms have run."""
    found, waiting = [], [vl_convert.vegalite_to_scenegraph(figure.spec)["scenegraph"]]
    while waiting:
        node = waiting.pop()
        found += [node["items"]] if node.get("marktype") == kind and node.get("role") == "mark" else []
        waiting += [item for item in node.get("items", ()) if isinstance(item, dict)]
    return found


def test_a_staircase_joins_the_best_of_a_workload_only() -> None:
    sizes, speeds = (100, 200, 300, 400, 500), (10.0, 30.0, 20.0, 30.0, 40.0)
    base = made_records()[0]
    records = [
        replace(base, parameters={**base.parameters, "prefill_chunk_size": size},
                metrics={"total_bytes": size << 20, "decode_tokens_per_s": speed})
        for size, speed in zip(sizes, speeds, strict=True)
    ]  # fmt: skip
    told = replace(records[0], predicted={"total_bytes": 50 << 20, "decode_tokens_per_s": 90.0}, status="predicted")
    other = replace(records[0], parameters={**base.parameters, "max_batch_size": 8})
    lines = drawn(pareto(point_frame([*records, told, other])), "line")
    # 300 is beaten by 200, and so is 400 by its equal; a prediction beats nothing; the other workload is a point alone
    assert sorted(len(line) for line in lines) == [1, 3]
