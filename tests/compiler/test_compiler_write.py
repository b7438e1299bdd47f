"""Libraries on disk: both forms, whole or not at all."""

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tvm import ir, relax
from tvm.target import Target

from kvscape.compiler.kernel_objects import object_file
from kvscape.compiler.kernels.cpu.gated import swiglu
from kvscape.compiler.target import detect_target
from kvscape.compiler.write import write_library
from kvscape.engine.devices.library import load_library, read_metadata
from kvscape.engine.devices.runtime import tvm
from kvscape.errors import ArtifactError, KvscapeError


@pytest.fixture(scope="module")
def executable() -> Any:
    """A library with one kernel, and a function that says hello."""
    builder = relax.BlockBuilder()
    with builder.function("hello", []):
        builder.emit_func_output(ir.StringImm("hello"))
    builder.add_func(swiglu(8), "swiglu")
    return relax.build(builder.get(), Target(dict(detect_target().llvm)))


def says(path: Path) -> str:
    vm = tvm.runtime.vm.VirtualMachine(load_library(path), [tvm.runtime.device("cpu", 0)])
    return str(vm["hello"]())


def test_a_tar_of_objects_needs_no_compiler(executable: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    path = tmp_path / "lib" / "hello.tar"
    write_library(executable, path)
    with tarfile.open(path) as tar:
        assert all(name.endswith(".o") for name in tar.getnames())
    assert says(path) == "hello"
    assert [file.name for file in path.parent.iterdir()] == ["hello.tar"], "nothing temporary is left"


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler here")
def test_a_shared_library_with_a_compiler(executable: Any, tmp_path: Path) -> None:
    write_library(executable, tmp_path / "hello.so")
    assert says(tmp_path / "hello.so") == "hello"


@pytest.mark.parametrize("ending", ["tar", "so"])
def test_kernels_that_were_compiled_apart_are_part_of_it(executable: Any, tmp_path: Path, ending: str) -> None:
    if ending == "so" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no C++ compiler here")
    objects = {"apart": object_file("apart", swiglu(8), detect_target())}
    write_library(executable, tmp_path / f"hello.{ending}", objects=objects)
    assert says(tmp_path / f"hello.{ending}") == "hello"
    assert load_library(tmp_path / f"hello.{ending}").get_function("apart", query_imports=True)


def test_a_shared_library_without_a_compiler_is_an_error(
    executable: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(KvscapeError, match=r"hello\.so: no C\+\+ compiler was found; write a \.tar"):
        write_library(executable, tmp_path / "hello.so")
    assert not list(tmp_path.iterdir())


def test_another_ending_is_an_error(executable: Any, tmp_path: Path) -> None:
    with pytest.raises(KvscapeError, match=r"a library ends with \.tar or \.so"):
        write_library(executable, tmp_path / "hello.o")


def test_a_folder_that_cannot_be_written_is_an_error(executable: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KvscapeError, match="file"):
        write_library(executable, tmp_path / "file" / "hello.tar")


def test_a_missing_library_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no library at .*none\.tar: the file does not exist; compile"):
        load_library(tmp_path / "none.tar")


@pytest.mark.parametrize("ending", ["tar", "so"])
@pytest.mark.parametrize("content", [b"", b"no library", bytes(20480)])
def test_a_damaged_library_is_an_error(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"bad.{ending}"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=f"cannot load .*bad.{ending}: .*; compile the model again"):
        load_library(path)


def test_a_library_cut_short_is_an_error(executable: Any, tmp_path: Path) -> None:
    path = tmp_path / "cut.tar"
    write_library(executable, path)
    whole = path.read_bytes()
    for size in (600, len(whole) // 3):
        path.write_bytes(whole[:size])
        with pytest.raises(ArtifactError, match="compile the model again"):
            load_library(path)


def test_a_library_that_does_not_describe_itself_is_an_error(executable: Any, tmp_path: Path) -> None:
    write_library(executable, tmp_path / "hello.tar")
    vm = tvm.runtime.vm.VirtualMachine(load_library(tmp_path / "hello.tar"), [tvm.runtime.device("cpu", 0)])
    with pytest.raises(ArtifactError, match="it does not describe itself as this version does"):
        read_metadata(vm, tmp_path / "hello.tar")
