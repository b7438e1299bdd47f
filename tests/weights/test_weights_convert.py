import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvscape.artifact import Artifact
from kvscape.artifact.tensor_file import map_tensors
from kvscape.errors import ConfigError, KvscapeError, WeightsError
from kvscape.quantization.arrays import Array
from kvscape.quantization.decode import decode
from kvscape.quantization.format import FORMATS
from kvscape.quantization.layouts import LAYOUTS
from kvscape.quantization.scheme import QUANTIZATIONS
from kvscape.weights.convert import convert, weights_key
from kvscape.weights.pack import pack_weights
from kvscape.weights.readers.gguf import GgufSource
from tiny import CHAT_TEMPLATE, TinyShape, write_tiny_gguf

MATRIX = "model.layers.0.self_attn.qkv_proj"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> GgufSource:
    """As the default model is: matrices Q4_1, embedding Q8_0."""
    return GgufSource(write_tiny_gguf(tmp_path_factory.mktemp("mixed") / "tiny.gguf", embedding_quant="Q8_0"))


def stored(artifact: Artifact, name: str) -> tuple[dict[str, Array], str]:
    prefix = f"{name}."
    arrays = {k.removeprefix(prefix): a for k, a in map_tensors(artifact.canonical_weights).items() if prefix in k}
    return arrays, artifact.manifest.tensors[name].format


def test_auto_keeps_the_files_codes(source: GgufSource, tmp_path: Path) -> None:
    artifact = convert(source, tmp_path / "out")
    assert stored(artifact, MATRIX)[1] == "q4af16_1"
    assert stored(artifact, "model.embed_tokens")[1] == "q8f16_1"
    for name, tensor in source.stream():
        arrays, fmt = stored(artifact, name)
        assert (decode(arrays, FORMATS[fmt]) == tensor.values()).all(), name
    assert {info.relative_error for info in artifact.manifest.tensors.values()} == {0.0}


@pytest.mark.parametrize("quantization", [name for name in QUANTIZATIONS if name != "auto"])
def test_a_named_quantization_rounds_and_says_by_how_much(
    source: GgufSource, tmp_path: Path, quantization: str
) -> None:
    artifact = convert(source, tmp_path / "out", quantization)
    for name, tensor in source.stream():
        (arrays, fmt), wanted = stored(artifact, name), tensor.values()
        error = np.square(decode(arrays, FORMATS[fmt], wanted.shape[-1]) - wanted).sum() / np.square(wanted).sum()
        assert artifact.manifest.tensors[name].relative_error == pytest.approx(error, rel=1e-4), name
        assert fmt == ("f32" if wanted.ndim == 1 else QUANTIZATIONS[quantization].name)  # type: ignore[union-attr]
        assert error < (0.06 if quantization == "q3f16_1" else 0.02)


def test_the_embedding_may_have_another_format(source: GgufSource, tmp_path: Path) -> None:
    manifest = convert(source, tmp_path / "out", "q4f16_1", "q0f16").manifest
    assert (manifest.tensors["model.embed_tokens"].format, manifest.tensors[MATRIX].format) == ("f16", "q4f16_1")
    assert (manifest.quantization, manifest.embedding_quantization) == ("q4f16_1", "q0f16")


@pytest.mark.parametrize("quantization", ["auto", "q3f16_1", "q4f32_1"])
def test_the_manifest_counts_what_is_stored(source: GgufSource, tmp_path: Path, quantization: str) -> None:
    """Padding of groups that are not full included: 64 columns take the words of 80 where groups hold 40."""
    artifact = convert(source, tmp_path / "out", quantization)
    arrays = map_tensors(artifact.canonical_weights)
    weights = sum(int(np.prod(info.shape)) for info in artifact.manifest.tensors.values())
    assert artifact.manifest.weights_bytes == sum(array.nbytes for array in arrays.values())
    assert artifact.manifest.bits_per_weight == 8 * artifact.manifest.weights_bytes / weights
    assert artifact.manifest.source_sha256 == source.sha256


def test_shape_and_chat_template_lie_beside_the_weights(source: GgufSource, tmp_path: Path) -> None:
    artifact = convert(source, tmp_path / "out")
    config = json.loads((artifact.folder / "config.json").read_text())
    assert (config["model_type"], config["eos_token_id"], config["head_dim"]) == ("llama", 2, 16)
    assert artifact.chat_template.read_text() == CHAT_TEMPLATE
    assert artifact.tokenizer.read_text() == source.tokenizer_json
    assert artifact.manifest.model == source.config


def test_a_code_that_cannot_be_kept_shows_as_an_error(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", quant="Q8_0")
    content, tensor = bytearray(path.read_bytes()), GgufSource(path).header.tensors["blk.0.ffn_down.weight"]
    content[tensor.offset + 2] = 0x80
    path.write_bytes(content)
    errors = {n: i.relative_error for n, i in convert(GgufSource(path), tmp_path / "out").manifest.tensors.items()}
    assert 0 < errors.pop("model.layers.0.mlp.down_proj") < 1e-4
    assert set(errors.values()) == {0.0}


def test_an_untied_head_is_a_tensor_of_its_own(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", shape=TinyShape(tied=False))
    assert "lm_head" in convert(GgufSource(path), tmp_path / "out").manifest.tensors


def test_progress_reaches_the_last_weight(source: GgufSource, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    convert(source, tmp_path / "out", progress=lambda done, total: told.append((done, total)))
    done = [step for step, _ in told]
    assert done == sorted(done) and done[0] == 0 and told[-1][0] == told[-1][1]


def test_the_key_changes_with_all_that_changes_the_weights() -> None:
    keys = [
        weights_key("a", "auto"),
        weights_key("b", "auto"),
        weights_key("a", "q0f16"),
        weights_key("a", "auto", "q0f16"),
    ]
    assert len(set(keys)) == 4
    assert weights_key("a", "q0f16", "q0f16") == weights_key("a", "q0f16")


@dataclass
class Watched:
    """A source that notes which tensors are read."""

    source: GgufSource
    read: list[str]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def stream(self) -> Iterator[tuple[str, Any]]:
        for name, tensor in self.source.stream():
            yield name, WatchedTensor(tensor, name, self.read)


@dataclass
class WatchedTensor:
    tensor: Any
    name: str
    read: list[str]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tensor, name)

    def part(self, rows: slice) -> Any:
        self.read.append(self.name)
        return self.tensor.part(rows)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def interrupt(source: GgufSource, folder: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, folder, progress=stop)
    assert not folder.exists()


def test_an_interrupted_conversion_goes_on_where_it_was(source: GgufSource, tmp_path: Path) -> None:
    interrupt(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
    rows: list[str] = []
    resumed = convert(Watched(source, rows), tmp_path / "out")
    assert rows and MATRIX not in rows  # the first tensors were done
    whole = convert(source, tmp_path / "whole")
    assert files(resumed.folder) == files(whole.folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_what_was_written_is_believed_only_if_it_is_there(source: GgufSource, tmp_path: Path) -> None:
    interrupt(source, tmp_path / "out")
    unfinished = tmp_path / ".out.partial" / "weights" / "canonical.safetensors.partial"
    content = bytearray(unfinished.read_bytes())
    content[-unfinished.stat().st_size // 2 - 9000 :] = bytes(len(content[-unfinished.stat().st_size // 2 - 9000 :]))
    unfinished.write_bytes(content)
    resumed = convert(source, tmp_path / "out")
    assert files(resumed.folder) == files(convert(source, tmp_path / "whole").folder)


@pytest.mark.parametrize("cut", [0, 1, 30, 100])
def test_a_journal_that_is_cut_short_is_no_harm(source: GgufSource, tmp_path: Path, cut: int) -> None:
    interrupt(source, tmp_path / "out")
    journal = tmp_path / ".out.partial" / "weights" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut] if cut else b"")
    resumed = convert(source, tmp_path / "out")
    assert files(resumed.folder) == files(convert(source, tmp_path / "whole").folder)


def test_another_quantization_begins_anew(source: GgufSource, tmp_path: Path) -> None:
    interrupt(source, tmp_path / "out")
    rows: list[str] = []
    convert(Watched(source, rows), tmp_path / "out", "q4f16_1")
    assert MATRIX in rows
    assert (tmp_path / "out" / "kvscape.json").exists()


def test_another_source_of_the_same_shape_begins_anew(source: GgufSource, tmp_path: Path) -> None:
    interrupt(source, tmp_path / "out")
    other = GgufSource(write_tiny_gguf(tmp_path / "other.gguf", embedding_quant="Q8_0", seed=1))
    assert files(convert(other, tmp_path / "out").folder) == files(convert(other, tmp_path / "whole").folder)


def test_an_error_in_one_block_counts_against_all_of_the_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", quant="Q8_0")
    content, tensor = bytearray(path.read_bytes()), GgufSource(path).header.tensors["blk.0.ffn_down.weight"]
    content[tensor.offset + 2] = 0x80
    path.write_bytes(content)
    name = "model.layers.0.mlp.down_proj"
    whole = convert(GgufSource(path), tmp_path / "whole").manifest.tensors[name].relative_error
    monkeypatch.setattr("kvscape.weights.blocks._BLOCK_WEIGHTS", 128 * 4)
    parts = convert(GgufSource(path), tmp_path / "parts").manifest.tensors[name].relative_error
    assert 0 < parts == pytest.approx(whole, rel=1e-6)


def test_blocks_change_nothing(source: GgufSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = convert(source, tmp_path / "whole", "q4f16_1")
    pack_weights(whole, LAYOUTS["rows8"])
    monkeypatch.setattr("kvscape.weights.blocks._BLOCK_WEIGHTS", 64 * 9)
    parts = convert(source, tmp_path / "parts", "q4f16_1")
    pack_weights(parts, LAYOUTS["rows8"])
    assert whole.canonical_weights.read_bytes() == parts.canonical_weights.read_bytes()
    assert whole.packed_weights("rows8").read_bytes() == parts.packed_weights("rows8").read_bytes()
    for name, info in whole.manifest.tensors.items():
        assert parts.manifest.tensors[name].relative_error == pytest.approx(info.relative_error, rel=1e-9)


def test_a_damaged_scale_names_its_tensor_and_leaves_nothing(tmp_path: Path, tiny_gguf: Path) -> None:
    content, tensor = bytearray(tiny_gguf.read_bytes()), GgufSource(tiny_gguf).header.tensors["blk.0.attn_v.weight"]
    content[tensor.offset : tensor.offset + 2] = b"\xff\xff"
    (tmp_path / "damaged.gguf").write_bytes(content)
    with pytest.raises(WeightsError, match=r"tensor model\.layers\.0\.self_attn\.qkv_proj: a scale is not finite"):
        convert(GgufSource(tmp_path / "damaged.gguf"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.gguf"]


@pytest.mark.parametrize("quantization", ["q4f16_1", "q3f16_1", "q8f32_1"])
def test_a_shape_that_does_not_split_into_groups(tmp_path: Path, quantization: str) -> None:
    shape = TinyShape(hidden_size=48, intermediate_size=72)
    source = GgufSource(write_tiny_gguf(tmp_path / "tiny.gguf", quant="F16", shape=shape))
    artifact = convert(source, tmp_path / "out", quantization)
    for name, info in artifact.manifest.tensors.items():
        arrays, fmt = stored(artifact, name)
        assert decode(arrays, FORMATS[fmt], info.shape[-1]).shape == info.shape
        assert info.relative_error < 0.06


def test_unknown_quantizations_and_places_that_cannot_be_written(source: GgufSource, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'q4f16_1'"):
        convert(source, tmp_path / "out", "q4f16")
    (tmp_path / "plain").write_text("")
    with pytest.raises(KvscapeError, match="cannot write"):
        convert(source, tmp_path / "plain" / "out")
