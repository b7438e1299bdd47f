"""What measures a GPU's speed, on a pretended one beside a peer that is a script of a few lines."""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from built_tiny import BuiltTiny, build_tiny, matrix_formats
from kvscape.analysis.adapters import adapters
from kvscape.compiler.build import LibrarySpec, compile_library
from kvscape.compiler.webgpu_target import WGSL
from kvscape.errors import CapacityError
from pretended_gpu import GPU, pretend_gpu
from shader_kernels import needs_adapter
from tiny import TinyShape, write_tiny_gguf

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ANSWERS = """
import json, os, sys
assert "PYTHONPATH" not in os.environ
print("a library prints")
print(json.dumps({"ready_s": 1.0}), flush=True)
for line in sys.stdin:
    copied = {"copied_bytes_per_s": 3e12}
    print(json.dumps(copied if "copy" in line else {name: 100.0 for name in %r}), flush=True)
"""
METRICS = ("prefill_tokens_per_s", "decode_tokens_per_s")
Speeds = Callable[..., str]


@pytest.fixture
def peer(tmp_path: Path) -> Callable[[str], Path]:
    """``peer(text)``: a program that runs this text, whatever script it is given."""

    def written(text: str) -> Path:
        (tmp_path / "peer.py").write_text(text)
        program = tmp_path / "python"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path / "peer.py"} "$@"\n')
        program.chmod(0o755)
        return program

    return written


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuiltTiny:
    folder = tmp_path_factory.mktemp("speeds")
    write_tiny_gguf(folder / "tiny.gguf", shape=TinyShape(context_length=8192))
    return build_tiny(folder / "tiny.gguf", folder, "q4f16_1", kv_dtypes=("f16",))


@pytest.fixture(scope="module")
def library(built: BuiltTiny) -> Path:
    return built.library.rename(built.library.with_name("q4f16_1.tar"))


@pytest.fixture
def speeds(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Speeds:
    """``speeds(*flags)``: what gpu.py prints; samples go to ``speeds.json``."""
    pretend_gpu(monkeypatch)
    monkeypatch.setenv("PYTHONPATH", "of ours")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = import_module("gpu")
    monkeypatch.setattr(benchmark, "DECODED", 3)
    monkeypatch.setattr(benchmark, "LONG", ((1, 600, "f16"), (1, 600, "fp8")))
    monkeypatch.setattr(benchmark, "WIDE", ((20, 512, "f16"), (64, 512, "f16")))
    monkeypatch.setattr(benchmark.signal, "signal", lambda *_: None)

    def done(*flags: str) -> str:
        places = [str(library), str(tmp_path), "--json", str(tmp_path / "speeds.json")]
        monkeypatch.setattr(sys, "argv", ["gpu.py", *places, *flags])
        benchmark.main()
        return capsys.readouterr().out

    return done


@needs_adapter
def test_a_library_of_shaders_runs_on_the_first_adapter(
    built: BuiltTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = LibrarySpec(built.artifact.manifest.model, matrix_formats(built.artifact), WGSL, "float32", {}, ("f16",))
    compile_library(spec, tmp_path / "shaders.tar")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = import_module("gpu")
    monkeypatch.setattr(benchmark, "DECODED", 3)
    monkeypatch.setattr(benchmark, "SHORT", ((2, 20, "f16"), (1, 20, "fp8")))
    monkeypatch.setattr(benchmark.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(tmp_path / "shaders.tar"), str(tmp_path / "weights")])
    benchmark.main()
    printed = capsys.readouterr().out
    assert [row[:4] for row in table(printed)[2:]] == [["shaders", "2", "20", "f16"]]
    assert adapters().found[0].name in printed


def kept(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "speeds.json").read_text())
    return found


def table(printed: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("|")]


def test_rows_are_those_the_library_has_a_cache_for(speeds: Speeds, tmp_path: Path) -> None:
    printed = speeds("--long", "--rounds", "2")
    rows = [row[:4] for row in table(printed)[2:]]
    f16 = [["q4f16_1", batch, "512", "f16"] for batch in ("1", "4", "16")]
    assert rows == [*f16, ["q4f16_1", "1", "600", "f16"]]
    assert all(len(row["metrics"]["step_s"]) == 2 for row in kept(tmp_path)["rows"])
    assert GPU.name in printed and kept(tmp_path)["facts"]["gpu"] == GPU.name


def test_prompts_of_more_than_one_step_are_measured_where_they_are_asked_for(speeds: Speeds) -> None:
    assert [row[1:4] for row in table(speeds("--only", "20x512"))[2:]] == [["20", "512", "f16"]]


def test_rows_are_chosen(speeds: Speeds) -> None:
    assert [row[1:4] for row in table(speeds("--only", "4x512", "600"))[2:]] == [
        ["4", "512", "f16"],
        ["1", "600", "f16"],
    ]


def test_it_alternates_with_a_peer(speeds: Speeds, peer: Callable[[str], Path], tmp_path: Path) -> None:
    printed = speeds("--peer", str(peer(ANSWERS % (METRICS,))), "--rounds", "2")
    measured = [line.split(":")[0] for line in printed.splitlines() if "tokens/s, step" in line or ": prefill" in line]
    pair = [
        "kvscape q4f16_1 1x512 f16",
        "PyTorch int4 1x512 f16",
        "kvscape q4f16_1 16x512 f16",
        "PyTorch int4 16x512 f16",
    ]
    assert measured == pair * 2
    ratios = table(printed)[-2:]
    assert [row[:2] for row in ratios] == [["q4f16_1 / int4", "1"], ["q4f16_1 / int4", "16"]]
    assert all(
        row[3] == "100" and float(row[4]) == pytest.approx(int(row[2].replace(",", "")) / 100, 0.1) for row in ratios
    )
    assert kept(tmp_path)["facts"]["copied_bytes_per_s"] == 3e12 and not kept(tmp_path)["failures"]


@pytest.mark.parametrize(
    ("text", "patience", "said"),
    [
        ("raise SystemExit('no torch')", "60", "ended with status 1: no torch"),
        ("import sys; sys.stdin.read()", "0", "does not answer in time"),
        ("print('{\"ready_s\": 1}', flush=True); input(); raise SystemExit('no memory')", "60", "status 1: no memory"),
    ],
)
def test_a_peer_that_fails_leaves_ours(
    text: str, patience: str, said: str, speeds: Speeds, peer: Callable[[str], Path], tmp_path: Path
) -> None:
    printed = speeds("--peer", str(peer(text)), "--patience", patience)
    assert {row[0] for row in table(printed)[2:]} == {"q4f16_1"} and len(table(printed)) == 4
    assert len(kept(tmp_path)["failures"]) == 2 and all(said in failure for failure in kept(tmp_path)["failures"])


def test_an_end_leaves_what_there_is(
    speeds: Speeds, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = import_module("gpu").measure

    def ended(device: Any, batch: int, prompt: int, kv_dtype: str) -> Any:
        return measure(device, batch, prompt, kv_dtype) if batch < 16 else sys.exit(143)

    monkeypatch.setattr(import_module("gpu"), "measure", ended)
    with pytest.raises(SystemExit):
        speeds()
    assert [row[1] for row in table(capsys.readouterr().out)[2:]] == ["1", "4"]


def test_a_row_that_does_not_fit_leaves_the_others(
    speeds: Speeds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = import_module("gpu").measure

    def full(device: Any, batch: int, prompt: int, kv_dtype: str) -> Any:
        if batch == 4:
            raise CapacityError("out of memory on cuda:0 for the KV cache")
        return measure(device, batch, prompt, kv_dtype)

    monkeypatch.setattr(import_module("gpu"), "measure", full)
    assert [row[1] for row in table(speeds())[2:]] == ["1", "16"]
    assert kept(tmp_path)["failures"] == ["q4f16_1 4x512 f16: out of memory on cuda:0 for the KV cache"]


def test_tables_go_into_the_page(speeds: Speeds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed, tables = speeds(), import_module("gpu_tables")
    page = tmp_path / "gpu.md"
    page.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    monkeypatch.setattr(tables, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["gpu_tables.py", str(tmp_path / "speeds.json"), "--write"])
    tables.main()
    assert table(page.read_text()) == table(printed) and "old" not in page.read_text()
    assert page.read_text().startswith("before\n") and page.read_text().endswith("\nafter\n")
    real = (BENCHMARKS.parent / "docs" / "gpu.md").read_text()
    assert real.count(tables.BEGIN) == real.count(tables.END) == 1
