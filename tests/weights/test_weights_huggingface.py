"""A Hugging Face folder as a source: its tensors under MLC's names, and what is refused."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvscape.artifact.tensor_file import map_tensors
from kvscape.errors import KvscapeError, UnsupportedModelError, WeightsError
from kvscape.quantization.arrays import Array
from kvscape.quantization.decode import decode
from kvscape.tokenizer import ChatTemplate
from kvscape.weights.convert import convert
from kvscape.weights.hf_mapping import hf_parts
from kvscape.weights.readers.hf_shape import model_config
from kvscape.weights.readers.huggingface import HuggingFaceSource
from tiny import CHAT_TEMPLATE, TinyShape
from tiny_folder import DTYPES, tiny_config, tiny_tensors, write_json, write_tiny_folder, write_tokenizer, write_weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_folder(tmp_path / "tiny")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shards", [1, 3])
def test_every_tensor_keeps_its_values(tmp_path: Path, dtype: str, shards: int) -> None:
    source = HuggingFaceSource(write_tiny_folder(tmp_path / "tiny", dtype=dtype, shards=shards))
    of = {name: tensor.astype(np.float32) for name, tensor in tiny_tensors(dtype=dtype).items()}
    found = {name: tensor.values() for name, tensor in source.stream()}
    for layer in ("model.layers.0", "model.layers.1"):
        parts = [of.pop(f"{layer}.self_attn.{name}_proj.weight") for name in "qkv"]
        assert (found.pop(f"{layer}.self_attn.qkv_proj") == np.concatenate(parts)).all()
        parts = [of.pop(f"{layer}.mlp.{name}_proj.weight") for name in ("gate", "up")]
        assert (found.pop(f"{layer}.mlp.gate_up_proj") == np.concatenate(parts)).all()
    assert {f"{name}.weight" for name in found} == of.keys()
    assert all((found[name.removesuffix(".weight")] == value).all() for name, value in of.items())


@pytest.mark.parametrize(("dtype", "fmt"), [("F32", "f32"), ("F16", "f16")])
def test_floats_are_kept_as_they_are(tmp_path: Path, dtype: str, fmt: str) -> None:
    source = HuggingFaceSource(write_tiny_folder(tmp_path / "tiny", dtype=dtype))
    for _, tensor in source.stream():
        assert (tensor.format.name, tensor.is_exact) == (fmt, True)
        assert (decode(tensor.kept(), tensor.format) == tensor.values()).all()


def rewrite(folder: Path, name: str, change: Callable[[Array], Array]) -> None:
    write_weights(folder, {n: change(tensor) if n == name else tensor for n, tensor in tiny_tensors().items()})


def test_bfloat16_becomes_f16_and_the_manifest_says_what_that_cost(folder: Path, tmp_path: Path) -> None:
    name = "model.layers.0.mlp.down_proj"
    rewrite(folder, f"{name}.weight", lambda tensor: (tensor * 1e-6).astype(ml_dtypes.bfloat16))
    manifest = convert(HuggingFaceSource(folder), tmp_path / "out").manifest
    assert manifest.tensors[name].format == "f16"
    assert 1e-6 < manifest.tensors[name].relative_error < 1e-1
    assert manifest.tensors["model.layers.1.mlp.down_proj"].relative_error < 1e-9


def test_bfloat16_beyond_f16_becomes_f32(folder: Path, tmp_path: Path) -> None:
    name = "model.layers.0.mlp.down_proj"
    rewrite(folder, f"{name}.weight", lambda tensor: (tensor * 1e6).astype(ml_dtypes.bfloat16))
    artifact = convert(HuggingFaceSource(folder), tmp_path / "out")
    info = artifact.manifest.tensors[name]
    assert (info.format, info.relative_error) == ("f32", 0.0)
    stored = map_tensors(artifact.canonical_weights)[f"{name}.weight"]
    assert (stored == (tiny_tensors()[f"{name}.weight"] * 1e6).astype(ml_dtypes.bfloat16).astype(np.float32)).all()


def test_an_untied_head_is_read_and_a_tied_one_is_not(tmp_path: Path) -> None:
    untied = HuggingFaceSource(write_tiny_folder(tmp_path / "untied", shape=TinyShape(tied=False)))
    assert dict(untied.stream())["lm_head"].shape == (320, 64)
    tied = write_tiny_folder(tmp_path / "tied")
    write_weights(tied, {**tiny_tensors(shape=TinyShape(tied=False)), "model.rotary_emb.inv_freq": np.ones(8)})
    assert "lm_head" not in dict(HuggingFaceSource(tied).stream())


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_of_gemma3_that_sees_pictures_the_text_model_is_read(folder: Path, prefix: str) -> None:
    """Its norms multiply by one more than the file holds."""
    text = tiny_config(TinyShape(num_hidden_layers=1), sliding_window=32)
    write_json(folder / "config.json", {"model_type": "gemma3", "text_config": text, "eos_token_id": [1, 2]})
    shape = model_config({**text, "model_type": "gemma3_text"}, "config.json")
    random = np.random.default_rng(0)
    parts = [part for group in hf_parts(shape).values() for part in group]
    tensors: dict[str, Array] = {part.name: random.standard_normal(part.shape, np.float32) for part in parts}
    named = {prefix + name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    write_weights(folder, {**named, "vision_tower.patches": np.ones(3, np.float32)})
    found = {name: tensor.values() for name, tensor in HuggingFaceSource(folder).stream()}
    norms = [name for name in found if name.endswith("norm")]
    assert len(norms) == 7
    assert all((found[name] == 1 + tensors[f"{name}.weight"]).all() for name in norms)
    assert (found["model.layers.0.mlp.down_proj"] == tensors["model.layers.0.mlp.down_proj.weight"]).all()


def test_the_sources_facts(folder: Path) -> None:
    source = HuggingFaceSource(folder)
    assert (source.name, source.chat_template) == ("tiny", CHAT_TEMPLATE)
    assert (source.config.bos_token_id, source.config.eos_token_ids) == (None, (2, 0))
    assert source.nbytes == sum(tensor.nbytes for tensor in tiny_tensors().values())
    before = source.sha256
    rewrite(folder, "model.norm.weight", lambda tensor: tensor * 2)
    assert HuggingFaceSource(folder).sha256 != before


def test_the_template_file_comes_before_the_tokenizers(folder: Path) -> None:
    write_json(folder / "tokenizer_config.json", {"chat_template": [{"name": "default", "template": "named"}]})
    assert HuggingFaceSource(folder).chat_template == "named"
    (folder / "chat_template.jinja").write_text("own")
    assert HuggingFaceSource(folder).chat_template == "own"


def test_a_template_for_tools_stands_beside_the_default_one(folder: Path) -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools }}"}]
    write_json(folder / "tokenizer_config.json", {"chat_template": named})
    template = ChatTemplate(HuggingFaceSource(folder).chat_template or "")
    assert (template.render([]), template.render([], tools=[{}])) == ("plain", "[{}]")


def test_the_first_token_is_what_the_tokenizer_adds(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    ids = {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}
    single = [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    added = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": ids}
    write_json(folder / "tokenizer.json", {**tokenizer, "post_processor": added})
    assert HuggingFaceSource(folder).config.bos_token_id is None  # add_bos_token is false
    write_json(folder / "tokenizer_config.json", {})
    assert HuggingFaceSource(folder).config.bos_token_id == 0
    write_json(folder / "tokenizer_config.json", {"add_bos_token": True, "bos_token": {"content": "<|im_start|>"}})
    assert HuggingFaceSource(folder).config.bos_token_id == 1


def index(folder: Path, **places: str) -> None:
    path = folder / "model.safetensors.index.json"
    write_json(path, {"weight_map": {**json.loads(path.read_text())["weight_map"], **places}})


def forget(folder: Path, name: str) -> None:
    path = folder / "model.safetensors.index.json"
    places = json.loads(path.read_text())["weight_map"]
    write_json(path, {"weight_map": {n: place for n, place in places.items() if n != name}})


def drop(folder: Path, name: str, **more: Array) -> None:
    write_weights(folder, {n: tensor for n, tensor in tiny_tensors().items() if n != name} | more)
    for path in folder.glob("model*-of-*"):
        path.unlink()
    (folder / "model.safetensors.index.json").unlink()


NORM = "model.norm.weight"
OUTSIDE = "it names the file"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda f: drop(f, NORM), "missing: model.norm.weight"),
    "left over": (lambda f: drop(f, NORM, extra=np.ones(2)), "missing: model.norm.weight; left over: extra"),
    "another shape": (lambda f: drop(f, "", **{NORM: np.ones(3, np.float32)}), r"is \(3,\), not \(64,\)"),
    "another type": (lambda f: drop(f, "", **{NORM: np.ones(64, np.int8)}), "has the type I8; use weights of F32"),
    "absolute": (lambda f: index(f, **{NORM: "/etc/passwd"}), OUTSIDE),
    "upwards": (lambda f: index(f, **{NORM: "../tiny/model-00001-of-00002.safetensors"}), OUTSIDE),
    "no such file": (lambda f: index(f, **{NORM: "model-3.safetensors"}), "No such file"),
    "a name of NUL": (lambda f: index(f, **{NORM: "\0"}), "embedded null"),
    "half a character": (lambda f: index(f, **{NORM: "\ud800"}), "surrogates not allowed"),
    "a wrong entry": (lambda f: index(f, none="model-00001-of-00002.safetensors"), "1 tensors are not where it says"),
    "a missing entry": (lambda f: forget(f, NORM), f"1 tensors are not in it, '{NORM}'"),
    "no index": (lambda f: write_json(f / "model.safetensors.index.json", []), "holds no JSON object"),
    "an empty index": (lambda f: write_json(f / "model.safetensors.index.json", {}), "it has no weight_map"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
    "a broken tokenizer": (lambda f: write_json(f / "tokenizer.json", {}), "tokenizer.json is damaged"),
    "a deep config": (lambda f: (f / "config.json").write_text("[" * 100_000), "config.json is damaged"),
    "many layers": (lambda f: write_tiny_folder(f, shards=2, num_hidden_layers=9999), "9999 layers, 20 tensors"),
    "more layers": (lambda f: write_tiny_folder(f, shards=2, num_hidden_layers=1 << 30), "num_hidden_layers: is"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_is_one_clear_line(name: str, tmp_path: Path) -> None:
    folder = write_tiny_folder(tmp_path / "tiny", shards=2)
    damage, says = DAMAGES[name]
    damage(folder)
    with pytest.raises(KvscapeError, match=says) as caught:
        HuggingFaceSource(folder)
    assert "\n" not in str(caught.value)


def test_links_out_of_the_folder_and_in_a_circle_are_refused(folder: Path, tmp_path: Path) -> None:
    weights = folder / "model.safetensors"
    weights.rename(tmp_path / "outside.safetensors")
    weights.symlink_to(tmp_path / "outside.safetensors")
    with pytest.raises(WeightsError, match="it is no file inside its folder"):
        HuggingFaceSource(folder)
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"x": "loop"}})
    (folder / "loop").symlink_to(folder / "loop")
    with pytest.raises(WeightsError, match="cannot read"):
        HuggingFaceSource(folder)


def test_a_snapshot_of_the_hubs_cache_may_link_to_its_blobs(tmp_path: Path) -> None:
    model = tmp_path / "models--org--tiny"
    folder = write_tiny_folder(model / "snapshots" / "abc")
    (model / "blobs").mkdir()
    plain = HuggingFaceSource(folder).sha256
    for path in list(folder.iterdir()):
        name = hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(model / "blobs" / name)
        path.symlink_to(Path("../../blobs") / name)
    source = HuggingFaceSource(folder)
    assert (source.name, len(dict(source.stream()))) == ("tiny", 14)
    assert source.sha256 == plain
    # The name is the hash: the content is not read for it.
    (folder / "model.safetensors").resolve().write_bytes(b"")
    assert source.folder.sha256([path.name for path in folder.iterdir()]) == plain


def test_an_unsupported_model_is_refused_before_weights_are_looked_at(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"model_type": "mamba"})
    with pytest.raises(UnsupportedModelError, match=r"architecture 'mamba' is not supported; supported are .*llama"):
        HuggingFaceSource(tmp_path)
    write_tokenizer(tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "llama", "quantization_config": {"bits": 4}})
    with pytest.raises(UnsupportedModelError, match="quantization_config"):
        HuggingFaceSource(tmp_path)


TEXTS = [
    "config.json",
    "model.safetensors.index.json",
    "tokenizer_config.json",
    "generation_config.json",
    "tokenizer.json",
]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_damaged_texts_never_break_the_reader(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed-folder"
    if not folder.exists():
        write_tiny_folder(folder, shards=2)
    path = folder / data.draw(st.sampled_from(TEXTS))
    whole = path.read_bytes()
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        path.write_bytes(content)
        source = HuggingFaceSource(folder)
        assert len(dict(source.stream())) == 14
    except KvscapeError as error:
        assert "\n" not in str(error)
    finally:
        path.write_bytes(whole)
