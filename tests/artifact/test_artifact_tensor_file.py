import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from kvscape.artifact.tensor_file import ALIGNMENT_BYTES, find_tensors, map_tensors, read_tensors
from kvscape.artifact.tensor_writer import write_tensors
from kvscape.errors import ArtifactError, KvscapeError

TENSORS: dict[str, NDArray[Any]] = {
    "codes": np.arange(30, dtype=np.uint32).reshape(5, 6),
    "scales": np.linspace(-1, 1, 7).astype(np.float16),
    "norm": np.arange(16, dtype=np.float32),
    "bytes": np.arange(3, dtype=np.int8),
}


def same(left: dict[str, NDArray[Any]], right: dict[str, NDArray[Any]]) -> bool:
    return list(left) == list(right) and all(
        left[name].dtype == right[name].dtype and np.array_equal(left[name], right[name]) for name in left
    )


def test_what_is_written_is_mapped_back_in_order(tmp_path: Path) -> None:
    write_tensors(tmp_path / "w.safetensors", TENSORS)
    assert same(map_tensors(tmp_path / "w.safetensors"), TENSORS)


def given_memory(nbytes: int) -> NDArray[np.uint8]:
    return np.full(nbytes, 255, np.uint8)


def test_what_is_written_is_read_into_given_memory(tmp_path: Path) -> None:
    write_tensors(tmp_path / "w.safetensors", TENSORS)
    read = read_tensors(tmp_path / "w.safetensors", given_memory)
    (tmp_path / "w.safetensors").write_bytes(b"")
    assert same(read, TENSORS)


def test_a_large_file_is_read_in_several_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvscape.artifact.tensor_file._READ_BYTES", 100)
    write_tensors(tmp_path / "w.safetensors", TENSORS)
    assert same(read_tensors(tmp_path / "w.safetensors", given_memory), TENSORS)


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: b"", lambda whole: whole[:5]])
def test_a_cut_file_is_not_read(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, TENSORS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtifactError, match=r"w\.safetensors is damaged"):
        read_tensors(path, given_memory)


def test_a_missing_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot read"):
        read_tensors(tmp_path / "none", given_memory)


def test_every_tensor_is_aligned(tmp_path: Path) -> None:
    write_tensors(tmp_path / "w.safetensors", TENSORS)
    addresses = [array.ctypes.data for array in map_tensors(tmp_path / "w.safetensors").values()]
    assert [address % ALIGNMENT_BYTES for address in addresses] == [0, 0, 0, 0]


def test_safetensors_itself_reads_the_file(tmp_path: Path) -> None:
    write_tensors(tmp_path / "w.safetensors", TENSORS)
    loaded = load_file(tmp_path / "w.safetensors")
    assert same({name: loaded[name] for name in TENSORS}, TENSORS)
    assert all(name.startswith("_pad.") for name in set(loaded) - set(TENSORS))


@given(shapes=st.lists(st.lists(st.integers(0, 9), max_size=3).map(tuple), max_size=5))
def test_any_shapes_come_back(tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, ...]]) -> None:
    path = tmp_path_factory.mktemp("any") / "w.safetensors"
    tensors = {f"t{i}": np.random.default_rng(i).random(shape, np.float32) for i, shape in enumerate(shapes)}
    write_tensors(path, tensors)
    assert same(map_tensors(path), tensors)
    assert set(tensors) <= set(load_file(path))


def test_writing_to_a_mapped_tensor_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, TENSORS)
    before = path.read_bytes()
    map_tensors(path)["codes"][:] = 0
    assert path.read_bytes() == before


def test_rows_are_read_alone(tmp_path: Path) -> None:
    write_tensors(tmp_path / "w.safetensors", TENSORS)
    found = find_tensors(tmp_path / "w.safetensors")
    assert (found["codes"].read(slice(1, 3)) == TENSORS["codes"][1:3]).all()
    assert (found["scales"].read(slice(None)) == TENSORS["scales"]).all()


def test_a_file_cut_anywhere_is_an_error_in_one_line(tmp_path: Path) -> None:
    path, cut = tmp_path / "w.safetensors", tmp_path / "cut.safetensors"
    write_tensors(path, TENSORS)
    whole = path.read_bytes()
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        with pytest.raises(ArtifactError, match=r"damaged: .*convert the model again") as caught:
            map_tensors(cut)
        assert "\n" not in str(caught.value)


@given(at=st.integers(0, 600), octet=st.integers(0, 255))
def test_a_changed_header_never_escapes_the_file(tmp_path_factory: pytest.TempPathFactory, at: int, octet: int) -> None:
    path = tmp_path_factory.mktemp("changed") / "w.safetensors"
    write_tensors(path, TENSORS)
    damaged = bytearray(path.read_bytes())
    damaged[at] = octet
    path.write_bytes(damaged)
    try:
        tensors = map_tensors(path)
    except ArtifactError:
        return
    assert sum(array.nbytes for array in tensors.values()) <= len(damaged)


@pytest.mark.parametrize(
    "header",
    [[], {"a": 1}, {"a": {}}, {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}, {"a": {"dtype": "X"}}],
)
def test_a_header_of_the_wrong_kind_is_an_error(tmp_path: Path, header: object) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "w").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(ArtifactError, match="damaged"):
        map_tensors(tmp_path / "w")


def test_a_file_that_is_not_aligned_is_refused(tmp_path: Path) -> None:
    save_file({"a": np.zeros(3, np.uint8), "b": np.zeros(3, np.uint8)}, tmp_path / "w")
    with pytest.raises(ArtifactError, match="not aligned to 64 bytes"):
        map_tensors(tmp_path / "w")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot read .*No such file"):
        map_tensors(tmp_path / "none")


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with pytest.raises(KvscapeError, match="cannot write"):
        write_tensors(tmp_path / "plain" / "w.safetensors", TENSORS)


def test_bytes_after_the_last_tensor_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, TENSORS)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ArtifactError, match=r"damaged: it needs \d+ bytes, has \d+"):
        map_tensors(path)


def test_tensors_that_overlap_are_damage(tmp_path: Path) -> None:
    entry = {"dtype": "U8", "shape": [64], "data_offsets": [0, 64]}
    text = json.dumps({"a": entry, "b": entry}).encode().ljust(248)
    (tmp_path / "w").write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))
    with pytest.raises(ArtifactError, match="tensor b begins at 0, not at 64"):
        map_tensors(tmp_path / "w")
