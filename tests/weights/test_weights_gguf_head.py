"""The beginning of a GGUF file says what it is."""

from pathlib import Path

import pytest

from kvscape.errors import UnsupportedModelError
from kvscape.weights.readers.gguf_head import check_head


def test_an_architecture_that_no_reader_knows(tiny_gguf: Path) -> None:
    head = tiny_gguf.read_bytes()[:4096]
    check_head(head, "tiny.gguf")
    with pytest.raises(UnsupportedModelError, match=r"architecture 'mamba' is not supported; supported are .*llama"):
        check_head(head.replace(b"llama", b"mamba"), "tiny.gguf")


@pytest.mark.parametrize("length", [0, 10, 24, 40])
def test_what_is_cut_off_is_left_to_the_reader(tiny_gguf: Path, length: int) -> None:
    check_head(tiny_gguf.read_bytes()[:length], "tiny.gguf")
