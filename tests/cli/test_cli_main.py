"""What each error becomes, and what starting the command line costs."""

import subprocess
import sys

import pytest

from kvscape.cli import models
from kvscape.cli.main import run
from kvscape.errors import ConfigError, NotMetError


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigError("what", "why\nso", "do"), 2, "error: what: why so; do\n"),
        (NotMetError("no point meets the budget"), 3, "error: no point meets the budget\n"),
    ],
)
def test_an_expected_error_is_one_line_and_a_status(
    error: BaseException, status: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> None:
        raise error

    monkeypatch.setattr(models, "command", failing)
    assert run(["models"]) == status
    assert capsys.readouterr() == ("", line)


def test_ctrl_c_is_status_130_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "command", interrupted)
    assert run(["models"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"
    assert "Traceback" not in capsys.readouterr().err


def test_a_bug_shows_where_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def failing() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(models, "command", failing)
    assert run(["models"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bench", "--quantisation", "auto"], "did you mean '--quantization'?"),
        (["bnech"], "Did you mean 'bench'?"),
        (["plot", "memroy"], "Did you mean 'memory'?"),
        (["bench", "--page-size", "many"], "Invalid value for '--page-size'"),
        (["bench", "--page-size"], "requires an argument"),
        (["study"], "nothing says what to measure"),
        (["plot", "ppl", "--out", "x.png"], "Missing option '--csv'"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("error: ") and says in err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("kvscape ")


def test_help_loads_nothing_heavy() -> None:
    heavy = "{'tvm', 'numpy', 'polars', 'altair', 'optuna', 'tokenizers'}"
    script = (
        f"import sys; from kvscape.cli.main import run; run(['bench', '--help']); print({heavy} & {{*sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = [sys.executable, "-m", "kvscape", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize("command", [[], ["plot"]])
def test_no_command_is_the_help_and_no_error(command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(command) == 2
    said = "".join(capfd.readouterr())
    assert "Usage: kvscape" in said and "error:" not in said
