"""What a compiled library says of itself, and the command that compiles one."""

import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from built_tiny import BuildTiny, matrix_formats
from kvscape.compiler import __main__ as command
from kvscape.compiler.build import LibrarySpec, compile_library
from kvscape.compiler.kernels.cpu.attention import tile_tokens
from kvscape.compiler.target import Architecture, detect_target, find_target
from kvscape.engine.devices.cpu import CpuDevice
from kvscape.engine.devices.library import library_metadata
from kvscape.errors import UnsupportedModelError
from kvscape.version import __version__


def test_a_library_describes_itself(built_tiny: BuildTiny) -> None:
    built = built_tiny("auto")
    metadata, manifest = CpuDevice(built.library, built.packed_weights, 2).metadata, built.artifact.manifest
    assert metadata.key == built.library.stem
    assert metadata.target == built.target.name
    assert metadata.tensor_formats == matrix_formats(built.artifact)
    assert metadata.model == manifest.model
    assert metadata.kvscape_version == __version__
    assert metadata.query_tile_tokens == tile_tokens(2)


GROUPS = 4 * 2 * 2 * 16 * 16


def test_the_workspace_of_the_tiny_model_is_its_memory_plan(built_tiny: BuildTiny) -> None:
    """Logits and what the last rows go through, by hand: f32 [r, 320], three times f32 [r, 64], their 8-bit codes.

    Unrounded keys of the groups that a sequence enters and leaves, f32 [2, 2 heads, 16 dimensions, 16 tokens].
    """
    built = built_tiny("auto")
    workspaces = CpuDevice(built.library, built.packed_weights, 2).metadata.workspaces
    per_row = 4 * 320 + 3 * (4 * 64) + 64 + 2 * (2 * 4)
    assert {workspace.bytes_per_logit_row for workspace in workspaces.values()} == {per_row}
    assert {name: w.bytes_per_sequence for name, w in workspaces.items() if w.bytes_per_sequence} == {"int4": GROUPS}
    assert all(w.fixed_bytes == 0 for w in workspaces.values())
    widest = 4 * (64 + 256) + 128  # the residual, gate and up, and the codes made of them are there at once
    assert all(w.bytes_per_token >= widest for w in workspaces.values())


def test_a_dump_has_a_file_for_each_pass_and_kernel(built_tiny: BuildTiny, tmp_path: Path) -> None:
    artifact = built_tiny("auto").artifact
    spec = LibrarySpec(artifact.manifest.model, matrix_formats(artifact), detect_target(), kv_dtypes=("f16",))
    compile_library(spec, tmp_path / "library.tar", tmp_path / "dump")
    *names, kernels = sorted((tmp_path / "dump").iterdir())
    assert [path.name for path in names[:3]] == ["00-Input.py", "01-QuantizeActivations.py", "02-FuseQuantize.py"]
    assert names[-1].name == "21-AttachGlobalSymbol.py" and len(names) == 22
    assert sorted(path.stem for path in kernels.iterdir()) == list(library_metadata(tmp_path / "library.tar").kernels)
    assert "T.parallel" in (kernels / "paged_attention_f16.py").read_text()


def test_a_whole_library_for_another_architecture(built_tiny: BuildTiny, tmp_path: Path) -> None:
    artifact = built_tiny("auto").artifact
    target = replace(find_target("neon"), architecture=Architecture(("another",), "aarch64-linux-gnu"))
    spec = LibrarySpec(artifact.manifest.model, matrix_formats(artifact), target, kv_dtypes=("f16",))
    compile_library(spec, tmp_path / "neon.tar")
    with tarfile.open(tmp_path / "neon.tar") as tar:
        headers = [tar.extractfile(member).read(20) for member in tar]  # type: ignore[union-attr]
    assert headers and all(header[:4] == b"\x7fELF" and header[18:] == b"\xb7\0" for header in headers), (
        "AArch64's number"
    )


@pytest.mark.parametrize(("name", "size", "multiple"), [("head_dim", 72, 16), ("intermediate_size", 132, 8)])
def test_sizes_that_vectors_would_cut_are_an_error(
    built_tiny: BuildTiny, tmp_path: Path, name: str, size: int, multiple: int
) -> None:
    artifact = built_tiny("auto").artifact
    model = replace(artifact.manifest.model, **{name: size})  # type: ignore[arg-type]
    spec = LibrarySpec(model, matrix_formats(artifact), find_target("generic"))
    with pytest.raises(UnsupportedModelError, match=f"{name} = {size}: the kernels take {multiple} values at once"):
        compile_library(spec, tmp_path / "a.tar")


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["kvscape.compiler", *map(str, arguments)])
    return command.main()


def test_the_command_compiles_what_its_arguments_say(
    built_tiny: BuildTiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(command, "compile_library", lambda *given: compiled.append(given))
    artifact, dump = built_tiny("auto").artifact, tmp_path / "dump"
    options = ["--overrides", "page_size=32;max_batch_size=2", "--debug-dump", dump]
    assert run_command(monkeypatch, artifact.folder, tmp_path / "a.tar", "generic", "float32", *options) == 0
    spec = LibrarySpec(
        artifact.manifest.model,
        matrix_formats(artifact),
        find_target("generic"),
        "float32",
        {"page_size": 32, "max_batch_size": 2},
    )
    assert compiled == [(spec, tmp_path / "a.tar", dump)]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("avx9", "int8"), "unknown target 'avx9'; did you mean 'avx2'"),
        (("generic", "int8", "--overrides", "page_sise=16"), "page_sise"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    built_tiny: BuildTiny,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    line: str,
) -> None:
    folder = built_tiny("auto").artifact.folder
    assert run_command(monkeypatch, folder, tmp_path / "a.tar", *arguments) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_artefact_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_command(monkeypatch, tmp_path / "none", tmp_path / "a.tar", "generic", "int8") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_host_with_the_runtime_alone_says_so_in_one_line() -> None:
    environment = {**os.environ, "TVM_USE_RUNTIME_LIB": "1"}
    command_line = [sys.executable, "-m", "kvscape.compiler", "artifact", "out.tar", "generic", "int8"]
    done = subprocess.run(command_line, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("cannot compile: TVM's runtime is here without its compiler;")
