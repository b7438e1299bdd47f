"""A safetensors header is believed only where it agrees with its file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from kvscape.errors import KvscapeError, UnsupportedModelError, WeightsError
from kvscape.weights.readers.safetensors_header import DTYPES, read_header
from kvscape.weights.readers.shards import tensor_rows

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(4, dtype=np.float16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file({"a": A, "b": B}, tmp_path / "model.safetensors", {"format": "pt"})
    return tmp_path / "model.safetensors"


def test_tensors_are_what_the_safetensors_package_reads(path: Path) -> None:
    tensors, of = read_header(path), load_file(path)
    assert tensors.keys() == of.keys()
    for name, tensor in tensors.items():
        assert tensor_rows(tensor).blocks(0, len(of[name])).tobytes() == of[name].tobytes()
        assert tensor_rows(tensor).kind.block_bytes == of[name].itemsize


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change the header and keep the data."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    return path


CASES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "overlapping": (lambda h: h["b"].update(data_offsets=[16, 24]), "tensor 'b' overlaps the one before it"),
    "a hole": (lambda h: h["b"].update(data_offsets=[28, 36]), "tensor 'b' leaves a hole before it"),
    "beyond the end": (lambda h: h["b"].update(shape=[5], data_offsets=[24, 34]), "it needs [0-9]+ bytes, has [0-9]+"),
    "too short": (lambda h: h["b"].update(shape=[3]), r"'b' of shape \(3,\) and type F16 does not take 8 bytes"),
    "another type": (lambda h: h["a"].update(dtype="F16"), "type F16 does not take 24 bytes"),
    "huge shape": (lambda h: h["a"].update(shape=[1 << 62, 1 << 62]), "does not take 24 bytes"),
    "negative shape": (lambda h: h["a"].update(shape=[-2, -3]), r"has the shape \[-2, -3\]"),
    "negative place": (lambda h: h["a"].update(data_offsets=[-24, 0]), r"'a' lies at \[-24, 0\]"),
    "no place": (lambda h: h["a"].pop("data_offsets"), "'a' lies at None"),
    "no object": (lambda h: h.update(a=[]), "'a' has no description"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_header_that_contradicts_its_file_is_one_clear_line(path: Path, name: str) -> None:
    change, says = CASES[name]
    with pytest.raises(WeightsError, match=says) as caught:
        read_header(rewritten(path, change))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_type_names_the_known_ones(path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="unknown type 'F4'; use a file whose tensors are F32, F16, BF16"):
        read_header(rewritten(path, lambda header: header["a"].update(dtype="F4")))


@pytest.mark.parametrize("length", [1 << 62, 1000, 121])
def test_a_header_beyond_the_file_is_not_read(path: Path, length: int) -> None:
    path.write_bytes(length.to_bytes(8, "little") + bytes(112))
    with pytest.raises(WeightsError, match=f"its header of {length:,} bytes does not fit into its 120 bytes"):
        read_header(path)


@pytest.mark.parametrize("content", [b"", b"\x01", b"\x02" + bytes(7) + b"[]", b"\x01" + bytes(7) + b"{"])
def test_what_is_no_safetensors_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is damaged"):
        read_header(path)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_bytes_never_break_the_reader(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    save_file({"a": A, "b": B}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        for tensor in read_header(path).values():
            if tensor.dtype in DTYPES and 0 not in tensor.shape and tensor.shape:
                assert tensor_rows(tensor).blocks(0, 1 << 60).nbytes == tensor.nbytes <= len(content)
    except KvscapeError as error:
        assert "\n" not in str(error)
