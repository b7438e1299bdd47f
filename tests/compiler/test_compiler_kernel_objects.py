"""Libraries of kernels that were compiled before: the same bytes, without reading or compiling them again."""

import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tvm import relax, tirx

from built_tiny import BuildTiny, matrix_formats
from kvscape.compiler import kernel_objects, key
from kvscape.compiler.build import LibrarySpec, compile_library
from kvscape.compiler.kernels.cpu import attention
from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.object_cache import ObjectCache
from kvscape.compiler.target import detect_target

Library = dict[str, bytes]  # its kernels' object files; TVM writes the rest in another order of sizes each time


@pytest.fixture(scope="module")
def spec(built_tiny: BuildTiny) -> LibrarySpec:
    artifact = built_tiny("auto").artifact
    return LibrarySpec(artifact.manifest.model, matrix_formats(artifact), detect_target(), kv_dtypes=("f16",))


@pytest.fixture(scope="module")
def first(spec: LibrarySpec, tmp_path_factory: pytest.TempPathFactory) -> tuple[Library, Path]:
    """A library, and the cache that was empty before it."""
    folder = tmp_path_factory.mktemp("first") / "kernels"
    return library(spec, ObjectCache(folder)), folder


@pytest.fixture
def cache(first: tuple[Library, Path], tmp_path: Path) -> ObjectCache:
    return ObjectCache(shutil.copytree(first[1], tmp_path / "kernels"))


@pytest.fixture
def compiled(first: tuple[Library, Path], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that are compiled from now on; those of the first library are not compiled indeed."""
    names: list[str] = []

    def noted(name: str, function: Any, target: Any) -> bytes:
        names.append(name)
        return first[0].get(f"{name}.o") or object_file(name, function, target)

    object_file = kernel_objects.object_file
    monkeypatch.setattr(kernel_objects, "object_file", noted)
    return names


def library(spec: LibrarySpec, cache: ObjectCache) -> Library:
    path = cache.folder.parent / "library.tar"
    compile_library(spec, path, cache=cache)
    with tarfile.open(path) as tar:
        kernels = [member for member in tar if not member.name[0].isdigit()]
        return {member.name: tar.extractfile(member).read() for member in kernels}  # type: ignore[union-attr]


def test_a_second_library_is_the_same_and_reads_and_compiles_no_kernel(
    spec: LibrarySpec,
    first: tuple[Library, Path],
    cache: ObjectCache,
    compiled: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "paged_attention", None)
    assert library(spec, cache) == first[0]
    assert not compiled


def test_another_quantization_compiles_what_reads_its_weights(
    spec: LibrarySpec, cache: ObjectCache, compiled: list[str]
) -> None:
    library(replace(spec, formats=dict.fromkeys(spec.formats, "q8f16_1")), cache)
    assert compiled and all("q8f16_1" in name for name in compiled)


@pytest.mark.parametrize("changed", ["sources_sha256", "version"])
def test_other_sources_and_versions_compile_everything(
    spec: LibrarySpec, cache: ObjectCache, compiled: list[str], monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    monkeypatch.setattr(key, changed, lambda *_: "another")
    kernels = library(spec, cache)
    assert {f"{name}.o" for name in compiled} == set(kernels)


def scaled(name: str = "scale", size: int = 8, factor: float = 0.5, dtype: str = "float32") -> Operator:
    tensor = relax.TensorType((tirx.Var("n", "int64"), size), dtype)
    return Operator(name, (relax.Var("x", tensor),), (factor,), (tensor,))


def test_a_kernel_is_known_by_all_that_it_is_made_from() -> None:
    def facts(op: Operator, name: str = "scale_8", key: str = "scale_8") -> list[str]:
        return kernel_objects.kernel_facts(name, Kernel(key, dict, ()), op)

    same = facts(scaled())
    assert facts(scaled()) == same
    other = [
        scaled("bend"),
        scaled(size=16),
        scaled(factor=0.25),
        scaled(dtype="float16"),
        replace(scaled(), results=()),
    ]
    different = [*map(facts, other), facts(scaled(), name="scale_81"), facts(scaled(), key="scale_8_again")]
    assert same not in different


def test_a_damaged_kernel_is_compiled_again(
    spec: LibrarySpec, first: tuple[Library, Path], cache: ObjectCache, compiled: list[str]
) -> None:
    damaged = max(cache.folder.iterdir(), key=lambda path: path.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert library(spec, cache) == first[0]
    assert compiled == ["paged_attention_f16"]
    compiled.clear()
    library(spec, cache)
    assert not compiled, "it is whole again"
