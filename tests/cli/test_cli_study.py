"""The flags of ``kvscape study``; what a whole study does is in ``test_cli_commands``."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvscape.analysis.memory import Workspace
from kvscape.cli.main import run
from kvscape.cli.study_space import chosen_space
from kvscape.config import ModelConfig
from kvscape.errors import ConfigError
from kvscape.study import SearchSettings
from kvscape.study.executor import Failed, ProcessExecutor
from kvscape.study.model_facts import ModelFacts
from kvscape.study.store import Store
from made_records import made_records

Captured = pytest.CaptureFixture[str]
MODEL = ModelConfig("llama", 64, 128, 2, 4, 2, 16, 320, 1e-5, 1e4, 4096, True, 1, (2,))
PAGE_PACKAGES = ("polars", "altair", "vl_convert", "optuna", "pandas")
NOT_GIVEN = dict.fromkeys(("file", "axis", "ppl", "study", "search", "points", "budget_minutes", "seed", "repeats"))


def flags(**given: Any) -> dict[str, Any]:
    return {**NOT_GIVEN, **given}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text('axes = {seed = [0, 1]}\n[search]\nmethod = "sobol"\npoints = 9\nrepeats = 2\n')
    return path


def test_a_small_space_needs_no_file() -> None:
    space = chosen_space(flags(axis=["kv_dtype=f16,int8", "seed=0:2:1"], ppl="context=64,limit=2", study="small"))
    assert (space.name, len(space.points), space.search) == ("small", 6, SearchSettings())
    assert space.quality is not None and (space.quality.settings.context, space.quality.settings.limit) == (64, 2)


def test_flags_of_the_search_win_over_the_files(file: Path) -> None:
    assert chosen_space(flags(file=file)).search == SearchSettings("sobol", 9, repeats=2)
    chosen = chosen_space(flags(file=file, search="adaptive", budget_minutes=3.0, seed=5, study="other"))
    assert chosen.search == SearchSettings("adaptive", 9, 3.0, 5, 2)
    assert chosen.name == "other"


def test_a_precision_is_asked_of_every_point(file: Path) -> None:
    precise = chosen_space(flags(file=file, precision="3%"))
    assert {point.workload.precision for point in precise.points} == {0.03} and len(precise.points) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"axis": ["seed=0"], "precision": "narrow"}, "'narrow' is not a share"),
        ({"axis": ["seed=0"], "precision": "300%"}, "precision = 3.0"),
        ({"axis": ["seed=0"], "file": True}, "both say what the space is"),
        ({}, "nothing says what to measure"),
        ({"file": True, "ppl": "limit=1"}, "write a table [ppl]"),
        ({"axis": ["seed=0"], "ppl": "contex=64"}, "did you mean 'context'?"),
        ({"axis": ["seed=0"], "search": "adaptve"}, "did you mean 'adaptive'?"),
        ({"axis": ["seed=0"], "points": 3}, "a grid is measured whole"),
    ],
)
def test_mistakes_are_named(given: dict[str, Any], message: str, file: Path) -> None:
    with pytest.raises(ConfigError) as error:
        chosen_space(flags(**{**given, **({"file": file} if "file" in given else {})}))
    assert message in str(error.value)


def test_a_dry_run_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(ProcessExecutor, "build", lambda self, point: Failed("failed", "no such model"))
    command = ["study", "--axis", "kv_dtype=f16,int8", "--axis", "model=none", "--dry-run", "--out", str(tmp_path)]
    assert run([*command, "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    ahead = json.loads(out)
    assert (ahead["study"], ahead["points"], ahead["feasible"], ahead["to_measure"]) == ("study", 2, 0, 0)
    assert [(group["points"], group["reason"]) for group in ahead["infeasible"]] == [(2, "no such model")]
    assert "compile none auto: failed: no such model" in err
    assert run(command) == 0
    assert "2 cannot run, as model=none: no such model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (("--min-context", "-4"), "min_context = -4: it must be more than 0"),
        (("--max-memory", "3zz"), "unknown unit 'zz'"),
        (("--objective", "spd"), "unknown objective 'spd'"),
        (("--baseline", "q9"), "no baseline 'q9' in the study"),
        (("--max-ppl-increase", "2%"), "the study measures no perplexity"),
        (("--objective", "quality"), "the study measures no perplexity"),
        (("--study", "a/b"), "it becomes part of a file's name"),
        (("--merge", "none.sqlite"), "cannot merge none.sqlite"),
    ],
)
def test_what_cannot_be_answered_is_said_before_anything_is_measured(
    limit: tuple[str, str], message: str, tmp_path: Path, capsys: Captured
) -> None:
    assert run(["study", "--axis", "seed=0", "--out", str(tmp_path / "out"), *limit]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[[exclude]]\nseed = 0\nreason = 'no seed'", "all are excluded: no seed"),
        ("[search]\nmethod = 'sobol'\nbudget_minutes = 1e-9", "there was no time for any; give a larger --budget"),
    ],
)
def test_a_study_that_measures_nothing_says_why(
    table: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    facts = ModelFacts(MODEL, 1000, "weights", "library", {"f16": Workspace(0, 0, 0, 0)})
    monkeypatch.setattr(ProcessExecutor, "build", lambda self, point: facts)
    (tmp_path / "mine.toml").write_text(f"axes = {{seed = [0]}}\n{table}\n")
    assert run(["study", str(tmp_path / "mine.toml"), "--out", str(tmp_path), "--quiet"]) == 2
    assert message in capsys.readouterr().err


def test_a_store_of_another_machine_is_merged(tmp_path: Path, capsys: Captured) -> None:
    with Store(tmp_path / "other.sqlite") as other:
        other.put("key", made_records()[0])
        other.set_points("theirs", [("key", None)])
    command = ["study", "--merge", str(tmp_path / "other.sqlite"), "--out", str(tmp_path / "ours"), "--json"]
    assert run(command) == 0
    assert json.loads(capsys.readouterr().out) == {"records": 1, "perplexities": 0, "points": 1, "studies": ["theirs"]}
    with Store(tmp_path / "ours" / "study.sqlite") as ours:
        assert ours.study_records("theirs") == made_records()[:1]
    assert run(["study", "--merge", str(tmp_path / "missing"), "--out", str(tmp_path / "ours")]) == 2


def test_a_host_that_measures_needs_no_package_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    record, facts = made_records()[0], ModelFacts(MODEL, 1000, "weights", "library", {"f16": Workspace(0, 0, 0, 0)})
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path))
    monkeypatch.setattr(ProcessExecutor, "build", lambda self, point: facts)
    monkeypatch.setattr(ProcessExecutor, "bench", lambda self, point: replace(record, parameters=point.flat()))
    monkeypatch.setattr("kvscape.bench.reference._seconds", lambda call: 0.05)
    for name in PAGE_PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    command = ["study", "--axis", "seed=0", "--out", str(tmp_path), "--no-report", "--quiet"]
    assert run([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["recommendation"] is None and len(answer["points"]) == 1
    assert not (tmp_path / "report.html").exists()
    assert run(command) == 0
    assert "1 of 1 points" in capsys.readouterr().out


def test_a_host_that_draws_nothing_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr("kvscape.cli.study._run", lambda space, flags: pytest.fail("it is measured"))
    for name in PAGE_PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    assert run(["study", "--axis", "seed=0", "--out", str(tmp_path)]) == 2
    line = "error: no page can be made here: it takes polars, altair, vl_convert, which this host lacks; add "
    assert capsys.readouterr().err.startswith(line)


def test_a_command_that_draws_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    (tmp_path / "load.csv").write_text("a\n1\n")
    for name in [name for name in sys.modules if name.startswith("kvscape.report.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "altair", None)
    assert run(["plot", "load", "--csv", str(tmp_path / "load.csv"), "--out-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: the package altair is missing; install it, or draw on another host\n"


def test_no_command_that_measures_imports_a_package_of_the_page() -> None:
    names = ("bench", "bench.profile", "quality", "subjects", "llm", "study.run", "study.executor", "study.export")
    code = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({PAGE_PACKAGES}))
from kvscape.cli.main import make_app
make_app()
for name in {names}:
    importlib.import_module("kvscape." + name)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
