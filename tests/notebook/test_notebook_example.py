"""examples/study.ipynb runs from its first cell to its last, and what its cells end with can be shown."""

import ast
import json
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "study.ipynb"


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell as a notebook does; the value of a last expression is what it shows."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)  # type: ignore[attr-defined]


def test_the_notebook_runs(
    tmp_path: Path,
    long_gguf: Path,
    kvscape_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On the tiny model that other tests compile too: most of the time would go into one of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KVSCAPE_HOME", str(kvscape_home))
    names: dict[str, Any] = {}
    assert any("random://tiny" in source for source in code_cells())
    shown = [run_cell(source.replace("random://tiny", str(long_gguf)), names) for source in code_cells()]
    frames = [value for value in shown if isinstance(value, pl.DataFrame)]
    assert frames[0]["status"].to_list() == ["ok"] * 4
    charts = [value for value in shown if isinstance(value, alt.TopLevelMixin)]
    assert len(charts) == 3
    for chart in charts:
        assert chart.to_dict()["config"]
    assert "kvscape chat" in capsys.readouterr().out
    assert (tmp_path / "results" / "report.html").is_file()
