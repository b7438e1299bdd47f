"""A library that the user gives: it works alone, or is refused before it runs."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from built_tiny import matrix_formats
from compiled_here import compiles_here
from kvscape import LLM
from kvscape.artifact import Artifact
from kvscape.compiler.build import LibrarySpec, compile_library
from kvscape.compiler.target import find_any_target, find_target
from kvscape.config import BuildConfig
from kvscape.errors import ArtifactError
from kvscape.llm import Built, model_lib
from kvscape.llm.build import keep_library

TOKENS = list(range(40, 90))


@pytest.fixture(scope="module")
def llm(open_llm: Callable[..., LLM], tiny_gguf: Path) -> Iterator[LLM]:
    with open_llm(tiny_gguf) as llm:
        yield llm


@pytest.fixture(scope="module")
def library(llm: LLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the compiled library outside of the cache."""
    copy = tmp_path_factory.mktemp("library") / "mine.tar"
    shutil.copyfile(llm.artifact.library(llm.metadata.key), copy)
    return copy


def test_a_library_file_works_alone(open_llm: Callable[..., LLM], llm: LLM, tiny_gguf: Path, library: Path) -> None:
    with open_llm(tiny_gguf, model_lib=library, jit="off") as other:
        np.testing.assert_array_equal(other.score(TOKENS), llm.score(TOKENS))


def test_weights_are_packed_as_the_librarys_target_reads_them(
    open_llm: Callable[..., LLM], llm: LLM, tiny_gguf: Path, tmp_path: Path
) -> None:
    model, formats = llm.artifact.manifest.model, matrix_formats(llm.artifact)
    generic = LibrarySpec(model, formats, find_target("generic"), "int8", {"max_batch_size": 3}, ("f16",))
    compile_library(generic, tmp_path / "generic.tar")
    target = model_lib.library_target(tmp_path / "generic.tar", llm.artifact.manifest, "int8", "f16")
    assert target == find_target("generic")
    with open_llm(tiny_gguf, model_lib=tmp_path / "generic.tar") as other:
        assert (other.metadata.target, other.engine.config.max_batch_size) == ("generic", 3)
        np.testing.assert_allclose(other.score(TOKENS), llm.score(TOKENS), atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quantization": "q8f16_1"}, r"it wants \S+ as q4af16_1, the weights have q8f16_1"),
        ({"embedding_quantization": "q0f16"}, "it wants model.embed_tokens as q4af16_1, the weights have f16"),
        ({"kv_dtype": "k=int8,v=int4"}, "it has the KV precisions f16, k=int8,v=int4 is asked for"),
        ({"activation": "float32"}, "it was compiled with --activation int8, float32 is asked for"),
    ],
)
def test_other_weights_are_refused(
    open_llm: Callable[..., LLM], tiny_gguf: Path, library: Path, fields: dict[str, str], message: str
) -> None:
    with pytest.raises(ArtifactError, match=rf"the library .*mine\.tar does not fit: {message}; leave --model-lib out"):
        open_llm(tiny_gguf, model_lib=library, **fields)


def test_another_model_is_refused(open_llm: Callable[..., LLM], long_gguf: Path, library: Path) -> None:
    message = "compiled for a model with max_position_embeddings = 256, this one has 4096"
    with pytest.raises(ArtifactError, match=message):
        open_llm(long_gguf, model_lib=library)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"target": "avx512vnni"}, "it was compiled for avx512vnni, which this processor does not have"),
        ({"kvscape_version": "0.0.0"}, r"it was compiled by kvscape 0\.0\.0, this is"),
    ],
)
def test_what_cannot_run_here_is_refused(
    llm: LLM, library: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], message: str
) -> None:
    from kvscape.engine.devices import library as devices_library

    monkeypatch.setattr("kvscape.compiler.target.cpu_features", lambda: ("avx2", "fma", "f16c"))
    metadata = replace(llm.metadata, **{"target": "avx2", **changed})  # type: ignore[arg-type]
    monkeypatch.setattr(devices_library, "library_metadata", lambda path: metadata)
    with pytest.raises(ArtifactError, match=message):
        model_lib.library_target(library, llm.artifact.manifest, "int8", "f16")


def test_a_library_that_was_carried_here_is_kept_under_its_key(
    llm: LLM, library: Path, tmp_path: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiles_here(monkeypatch)
    build, folder = BuildConfig(str(tiny_gguf)), tmp_path / "artifact"
    shutil.copytree(llm.artifact.folder, folder, ignore=shutil.ignore_patterns("lib"))
    carried = Built(Artifact(folder), find_any_target(llm.metadata.target), library)
    kept = keep_library(carried, build, {}, "f16")
    assert kept.library == Artifact(folder).library(llm.metadata.key)
    assert kept.library.read_bytes() == library.read_bytes()
    with pytest.raises(ArtifactError, match=r"mine\.tar does not fit: its key is .*: other sources, versions"):
        keep_library(carried, build, {"max_batch_size": 3}, "f16")


def test_what_is_no_library_is_refused(open_llm: Callable[..., LLM], tiny_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no library at"):
        open_llm(tiny_gguf, model_lib=tmp_path / "none.tar")
    (tmp_path / "plain.tar").write_text("no tar")
    with pytest.raises(ArtifactError, match=r"cannot load .*plain\.tar"):
        open_llm(tiny_gguf, model_lib=tmp_path / "plain.tar")
    (tmp_path / "plain.so").write_text("no library")
    with pytest.raises(ArtifactError, match=r"cannot load .*plain\.so"):
        open_llm(tiny_gguf, model_lib=tmp_path / "plain.so")
