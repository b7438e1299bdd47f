"""The header against the ``gguf`` package's own reader, and damage of every kind."""

import struct
from pathlib import Path

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvscape.errors import KvscapeError, UnsupportedModelError, WeightsError
from kvscape.weights.readers.gguf import GgufSource
from kvscape.weights.readers.gguf_header import read_header
from tiny import write_tiny_gguf


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def file_of(*entries: bytes, tensors: int = 0, keys: int | None = None, version: int = 3) -> bytes:
    """A GGUF file of these metadata and tensor entries."""
    count = len(entries) - tensors if keys is None else keys
    return b"GGUF" + struct.pack("<IQQ", version, tensors, count) + b"".join(entries)


def tensor(name: str, *dimensions: int, kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)


def whole(key: str, value: int) -> bytes:
    return text(key) + struct.pack("<II", 4, value)


def expect(path: Path, content: bytes, match: str, kind: type[KvscapeError] = WeightsError) -> None:
    path.write_bytes(content)
    with pytest.raises(kind, match=match) as caught:
        read_header(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("quant", ["F32", "F16", "Q4_0", "Q4_1", "Q8_0"])
def test_the_header_is_what_the_gguf_package_reads(tmp_path: Path, quant: str) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", quant=quant)
    header, reader = read_header(path), gguf.GGUFReader(path)
    fields = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    assert header.metadata == fields
    assert [(t.name, t.type_name, t.offset, t.nbytes, t.shape) for t in header.tensors.values()] == [
        (t.name, t.tensor_type.name, t.data_offset, t.n_bytes, tuple(reversed(t.shape.tolist())))
        for t in reader.tensors
    ]


def test_every_kind_of_metadata_is_read(tmp_path: Path) -> None:
    path = tmp_path / "kinds.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    values = {"u8": 1, "i8": -1, "u16": 2, "i16": -2, "u32": 3, "i32": -3, "u64": 2**40, "i64": -(2**40)}
    for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
        key = kind.replace("uint", "u").replace("int", "i")
        getattr(writer, f"add_{kind}")(key, values[key])
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 0.1)
    writer.add_bool("yes", True)
    writer.add_string("text", "grüß 🙂")
    writer.add_array("numbers", [1, 2, 3])
    writer.add_array("words", ["a", "", "ü"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    more = {"f32": 0.5, "f64": 0.1, "yes": True, "text": "grüß 🙂", "numbers": [1, 2, 3], "words": ["a", "", "ü"]}
    assert read_header(path).metadata == {"general.architecture": "llama", **values, **more}


def test_a_cut_file_says_how_much_is_missing(tmp_path: Path, tiny_gguf: Path) -> None:
    size = tiny_gguf.stat().st_size
    expect(
        tmp_path / "cut.gguf",
        tiny_gguf.read_bytes()[:-1],
        rf"cut\.gguf: truncated: needs {size:,} bytes, has {size - 1:,} bytes; download again",
    )


def test_a_file_cut_anywhere_is_one_clear_error(tmp_path: Path, tiny_gguf: Path) -> None:
    content = tiny_gguf.read_bytes()
    last_tensor = max(t.offset + t.nbytes for t in read_header(tiny_gguf).tensors.values())
    for size in [*range(64), *range(64, last_tensor, 61)]:
        expect(tmp_path / "cut.gguf", content[:size], "truncated: needs")


@given(data=st.data())
def test_changed_bytes_never_escape_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path, data: st.DataObject
) -> None:
    damaged = bytearray(tiny_gguf.read_bytes())
    header_bytes = min(t.offset for t in read_header(tiny_gguf).tensors.values())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, header_bytes - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "damaged.gguf"
    path.write_bytes(damaged)
    try:
        assert len(dict(GgufSource(path).stream())) == 14
    except KvscapeError as error:
        assert "\n" not in str(error)


def test_a_missing_file_an_empty_one_and_a_folder(tmp_path: Path) -> None:
    for path, match in [(tmp_path / "none.gguf", "cannot read .*No such file"), (tmp_path, "cannot read .*directory")]:
        with pytest.raises(WeightsError, match=match):
            read_header(path)
    expect(tmp_path / "empty.gguf", b"", "needs 4 bytes, has 0 bytes")


def test_another_kind_of_file(tmp_path: Path) -> None:
    expect(tmp_path / "x", b"PK\x03\x04" + bytes(100), r"is not a GGUF file: it begins with b'PK.*give a \.gguf file")


@pytest.mark.parametrize(("version", "match"), [(1, "version 1 of GGUF"), (3 << 24, "a big-endian file of GGUF")])
def test_versions_that_are_not_read(tmp_path: Path, version: int, match: str) -> None:
    expect(tmp_path / "x", file_of(version=version), match, UnsupportedModelError)


@pytest.mark.parametrize(("tensors", "keys"), [(0, 2**63), (2**63, 0), (2**40, 2**40)])
def test_counts_that_no_file_can_hold(tmp_path: Path, tensors: int, keys: int) -> None:
    expect(tmp_path / "x", file_of(tensors=tensors, keys=keys), "truncated: needs")


def test_lengths_beyond_the_file(tmp_path: Path) -> None:
    long_key = struct.pack("<Q", 2**62) + bytes(30)
    long_array = text("a") + struct.pack("<IIQ", 9, 4, 2**60) + bytes(30)
    long_strings = text("a") + struct.pack("<IIQ", 9, 8, 2**60) + bytes(30)
    for entry in (long_key, long_array, long_strings):
        expect(tmp_path / "x", file_of(entry), "truncated: needs")


@pytest.mark.parametrize(
    ("entries", "tensors", "match"),
    [
        ([text("a") + struct.pack("<I", 99) + bytes(9)], 0, "metadata type 99 is unknown"),
        ([text("a") + struct.pack("<IIQ", 9, 9, 1) + bytes(9)], 0, "array of metadata type 9 is unknown"),
        ([struct.pack("<Q", 1) + b"\xff" + bytes(9)], 0, "not UTF-8"),
        ([whole("a", 1), whole("a", 2)], 0, "'a' occurs twice"),
        ([whole("general.alignment", 0)], 0, "general.alignment is 0"),
        ([whole("general.alignment", 48)], 0, "general.alignment is 48"),
        ([tensor("w", 8), tensor("w", 8)], 2, "'w' occurs twice"),
        ([tensor("w", 8, offset=4)], 1, "not aligned to 32 bytes"),
        ([tensor("w", 1, 1, 1, 1, 1)], 1, "has 5 dimensions"),
        ([tensor("w", 0)], 1, r"has the shape \(0,\)"),
        ([tensor("w", 33, kind=2)], 1, r"type Q4_0 has the shape \(33,\)"),
    ],
)
def test_damage_is_named(tmp_path: Path, entries: list[bytes], tensors: int, match: str) -> None:
    expect(tmp_path / "x", file_of(*entries, tensors=tensors) + bytes(256), rf"is damaged: .*{match}.*; download again")


def test_a_tensor_type_that_ggml_does_not_have(tmp_path: Path) -> None:
    content = file_of(tensor("w", 8, kind=77), tensors=1) + bytes(64)
    expect(tmp_path / "x", content, "'w' .*has the unknown type 77", UnsupportedModelError)


def test_a_tensor_beyond_the_file(tmp_path: Path) -> None:
    content = file_of(tensor("w", 2**40, 2**20), tensors=1) + bytes(64)
    expect(tmp_path / "x", content, "truncated: needs 4,611,686")
