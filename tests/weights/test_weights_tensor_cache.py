"""TVM's tensor cache: what TVM dumps is read, and nothing that contradicts itself."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm.contrib import tvmjs

from kvscape.errors import KvscapeError
from kvscape.quantization.arrays import Array
from kvscape.weights.readers.folder import ModelFolder
from kvscape.weights.readers.tensor_cache import read_cache

ARRAYS: dict[str, Array] = {
    "codes": np.arange(12, dtype=np.uint32).reshape(3, 4),
    "scales": np.linspace(-1, 1, 6, dtype=np.float16).reshape(3, 2),
    "norm": np.linspace(-3, 3, 5, dtype=np.float32),
}


def dump(folder: Path, encoding: str = "raw", arrays: dict[str, Array] | None = None) -> Path:
    """Let TVM write the folder."""
    with contextlib.redirect_stdout(io.StringIO()):
        tvmjs.dump_tensor_cache(ARRAYS if arrays is None else arrays, str(folder), encoding, show_progress=False)
    return folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    tensors = read_cache(ModelFolder(folder)).tensors
    return {n: t.path.read_bytes()[t.offset : t.offset + t.nbytes] for n, t in tensors.items()}


def test_what_tvm_dumps_is_read(tmp_path: Path) -> None:
    assert bytes_of(dump(tmp_path)) == {name: array.tobytes() for name, array in ARRAYS.items()}
    cache = read_cache(ModelFolder(tmp_path))
    assert {n: (t.dtype, t.shape) for n, t in cache.tensors.items()} == {
        name: (str(array.dtype), array.shape) for name, array in ARRAYS.items()
    }
    cache.verify()


def test_f32_that_was_cut_to_bfloat16(tmp_path: Path) -> None:
    dump(tmp_path, "f32-to-bf16")
    tensors = read_cache(ModelFolder(tmp_path)).tensors
    assert [tensors[name].dtype for name in ARRAYS] == ["uint32", "float16", "bfloat16"]
    assert bytes_of(tmp_path)["norm"] == ARRAYS["norm"].astype(ml_dtypes.bfloat16).tobytes()


def test_the_table_by_its_older_name(tmp_path: Path) -> None:
    (dump(tmp_path) / "tensor-cache.json").rename(tmp_path / "ndarray-cache.json")
    assert bytes_of(tmp_path).keys() == ARRAYS.keys()


Change = Callable[[dict[str, Any]], object]
SHARD: dict[str, tuple[Change, str]] = {
    "another size": (lambda s: s.update(nbytes=7), "has 80 bytes, not 7"),
    "upwards": (lambda s: s.update(dataPath="../x.bin"), "names the file '../x.bin'"),
    "absolute": (lambda s: s.update(dataPath="/etc/passwd"), "names the file '/etc/passwd'"),
    "no file": (lambda s: s.update(dataPath="x.bin"), "No such file"),
    "another format": (lambda s: s.update(format="zip"), "of the format 'zip'"),
    "no records": (lambda s: s.pop("records"), "records is no list of objects"),
    "twice": (lambda s: s["records"].append(s["records"][0]), "overlaps the one before it"),
}
RECORD: dict[str, tuple[Change, str]] = {
    "beyond the end": (lambda r: r.update(byteOffset=1000), "ends at 1,048 of 80 bytes"),
    "overlapping": (lambda r: r.update(byteOffset=8), "overlaps the one before it"),
    "negative": (lambda r: r.update(byteOffset=-1), "does not take 48 bytes"),
    "another shape": (lambda r: r.update(shape=[3, 5]), r"uint32 \(3, 5\) does not take 48 bytes"),
    "a huge shape": (lambda r: r.update(shape=[1 << 62, 1 << 62]), "does not take 48 bytes"),
    "no shape": (lambda r: r.pop("shape"), "has the shape None"),
    "no name": (lambda r: r.pop("name"), "has no name"),
    "an unknown type": (lambda r: r.update(dtype="int4"), "has the type 'int4'"),
    "an unknown format": (lambda r: r.update(format="zip"), "the format 'zip'"),
}


@pytest.mark.parametrize("name", [*SHARD, *RECORD])
def test_a_table_that_contradicts_itself_is_one_clear_line(tmp_path: Path, name: str) -> None:
    path = dump(tmp_path / "cache") / "tensor-cache.json"
    table = json.loads(path.read_text())
    change, says = (SHARD | RECORD)[name]
    change(table["records"][0] if name in SHARD else table["records"][0]["records"][0])
    path.write_text(json.dumps(table))
    with pytest.raises(KvscapeError, match=says) as caught:
        read_cache(ModelFolder(tmp_path / "cache"))
    assert "\n" not in str(caught.value)


def test_a_corrupted_shard_is_found_by_its_md5sum(tmp_path: Path) -> None:
    shard = dump(tmp_path) / "params_shard_0.bin"
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(KvscapeError, match=r"params_shard_0\.bin is damaged: its md5sum is another; download it again"):
        read_cache(ModelFolder(tmp_path)).verify()


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_bytes_never_break_the_reader(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed-cache"
    path = (folder if folder.exists() else dump(folder)) / "tensor-cache.json"
    whole = path.with_suffix(".whole")
    if not whole.exists():
        path.rename(whole)
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        for tensor in read_cache(ModelFolder(folder)).tensors.values():
            assert tensor.offset + tensor.nbytes <= tensor.path.stat().st_size
    except KvscapeError as error:
        assert "\n" not in str(error)
