"""Models that are split into several files."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from kvscape.errors import WeightsError
from kvscape.weights.readers.gguf import GgufSource
from kvscape.weights.readers.gguf_files import first_of_split, open_gguf
from kvscape.weights.sources import gguf_file
from tiny import write_tiny_gguf


@pytest.fixture
def split(tmp_path: Path, tiny_gguf: Path) -> list[Path]:
    """The tiny model in three files, as llama.cpp's gguf-split writes them."""
    return split_gguf(tiny_gguf, tmp_path / "split", 3)


Change = Callable[[int, dict[str, int]], None]


def split_gguf(path: Path, folder: Path, count: int, changed: Change | None = None) -> list[Path]:
    folder.mkdir(exist_ok=True)
    reader = gguf.GGUFReader(path)
    paths = []
    for number in range(count):
        keys = {"split.no": number, "split.count": count, "split.tensors.count": len(reader.tensors)}
        if changed:
            changed(number, keys)
        paths.append(folder / f"tiny-{number + 1:05d}-of-{count:05d}.gguf")
        writer = gguf.GGUFWriter(paths[-1], "llama")
        if number == 0:
            copy_metadata(reader, writer)
        for key, value in keys.items():
            writer.add_uint16(key, value)
        for tensor in reader.tensors[number::count]:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths


def copy_metadata(reader: gguf.GGUFReader, writer: gguf.GGUFWriter) -> None:
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            inner = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(key, field.contents(), field.types[0], inner)


def test_the_first_opens_all(split: list[Path], tiny_gguf: Path) -> None:
    whole, parts = GgufSource(tiny_gguf), GgufSource(split[0])
    assert parts.name == "tiny.gguf" and parts.config == whole.config
    assert parts.sha256 != whole.sha256
    expected = dict(whole.stream())
    for name, tensor in parts.stream():
        assert np.array_equal(tensor.values(), expected[name].values()), name


def test_a_missing_part_is_named(split: list[Path]) -> None:
    split[1].unlink()
    with pytest.raises(WeightsError, match=r"is incomplete: missing: tiny-00002-of-00003\.gguf; download all parts"):
        open_gguf(split[0])


def test_another_part_than_the_first_says_which_to_give(split: list[Path]) -> None:
    with pytest.raises(WeightsError, match=r"not the first part of its model; give tiny-00001-of-00003\.gguf"):
        open_gguf(split[2])


def test_a_part_under_another_name_is_refused(split: list[Path]) -> None:
    split[0].rename(split[0].with_name("model.gguf"))
    with pytest.raises(WeightsError, match=r"split\.count is 3; name it as"):
        open_gguf(split[0].with_name("model.gguf"))


def test_a_part_of_another_model_is_refused(tmp_path: Path, tiny_gguf: Path) -> None:
    def wrong(key: str, value: int) -> Change:
        return lambda number, keys: keys.update({key: value}) if number == 1 else None

    for key, value, found in [("split.no", 0, "0 and 3"), ("split.count", 4, "1 and 4")]:
        paths = split_gguf(tiny_gguf, tmp_path / "wrong", 3, wrong(key, value))
        with pytest.raises(WeightsError, match=f"are {found}, not 1 and 3"):
            open_gguf(paths[0])


def test_tensors_that_are_missing_or_there_twice(tmp_path: Path, tiny_gguf: Path, split: list[Path]) -> None:
    paths = split_gguf(tiny_gguf, tmp_path / "more", 3, lambda number, keys: keys.update({"split.tensors.count": 21}))
    with pytest.raises(WeightsError, match=r"have 20 tensors, split\.tensors\.count is 21"):
        open_gguf(paths[0])
    places = open_gguf(split[0]).places
    kept = next(name for name, place in places.items() if place == split[0] and "blk.0" in name)
    lost = next(name for name, place in places.items() if place == split[2] and len(name) == len(kept))
    split[2].write_bytes(split[2].read_bytes().replace(lost.encode(), kept.encode()))
    with pytest.raises(WeightsError, match=rf"it has {kept} again"):
        open_gguf(split[0])


def test_a_damaged_part_is_named(split: list[Path]) -> None:
    split[2].write_bytes(split[2].read_bytes()[:-10])
    with pytest.raises(WeightsError, match=r"tiny-00003-of-00003\.gguf: truncated"):
        open_gguf(split[0])


@pytest.mark.parametrize("count", [b"\xff\xff", b"\x00\x80"])
def test_a_count_beyond_reason_is_refused(split: list[Path], count: bytes) -> None:
    key = b"split.count\x02\0\0\0"
    split[0].write_bytes(split[0].read_bytes().replace(key + b"\x03\0", key + count))
    with pytest.raises(WeightsError, match="is part of a split model"):
        open_gguf(split[0])


def test_a_folder_with_all_parts_is_a_model(split: list[Path]) -> None:
    assert gguf_file(split[0].parent) == split[0]


def test_the_first_of_a_set_is_found(tmp_path: Path) -> None:
    parts = [Path(f"m-0000{n}-of-00003.gguf") for n in (2, 1, 3)]
    assert first_of_split(parts) == parts[1]
    assert first_of_split([*parts, Path("m.gguf")]) is None
    assert first_of_split([Path("a-00001-of-00002.gguf"), Path("b-00002-of-00002.gguf")]) is None
    assert first_of_split([]) is None
    write_tiny_gguf(tmp_path / "tiny.gguf")
    assert open_gguf(tmp_path / "tiny.gguf").paths == (tmp_path / "tiny.gguf",)
