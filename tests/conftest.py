"""What several tests share."""

from pathlib import Path

import pytest

from tiny import write_tiny_gguf


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama model of a few kilobytes in Q4_1: see ``tiny.write_tiny_gguf``."""
    return write_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")
