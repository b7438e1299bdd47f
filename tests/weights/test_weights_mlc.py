"""An MLC-LLM folder as a source, and one written from an artefact."""

import contextlib
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm.contrib import tvmjs

from kvscape.artifact import Artifact
from kvscape.artifact.tensor_file import map_tensors
from kvscape.config import ModelConfig
from kvscape.errors import ConfigError, KvscapeError, UnsupportedModelError
from kvscape.quantization.arrays import Array
from kvscape.quantization.encode import encode
from kvscape.quantization.format import FORMATS
from kvscape.tokenizer import ChatTemplate
from kvscape.weights.canonical import canonical_shapes
from kvscape.weights.convert import convert
from kvscape.weights.mlc_config import QUANTIZATIONS, hf_words, mlc_model_config
from kvscape.weights.mlc_folder import write_mlc_folder
from kvscape.weights.mlc_names import mlc_parts
from kvscape.weights.readers.gguf import GgufSource
from kvscape.weights.readers.hf_shape import DEFAULTS, model_config
from kvscape.weights.readers.huggingface import HuggingFaceSource
from kvscape.weights.readers.mlc import MlcSource
from tiny import CHAT_TEMPLATE, TinyShape
from tiny_architectures import ARCHITECTURES, write_architecture
from tiny_folder import tiny_config, write_json, write_tiny_folder

WRITTEN = [name for name, fmt in QUANTIZATIONS.items() if fmt in FORMATS and name not in ("q0bf16", "q4f16_2")]


def artifact(folder: Path, quantization: str = "q4f16_1", **shape: Any) -> Artifact:
    source = HuggingFaceSource(write_tiny_folder(folder / "hf", dtype="F16", shape=TinyShape(**shape)))
    return convert(source, folder / f"artefact-{quantization}", quantization)


def mlc_folder(folder: Path, quantization: str = "q4f16_1") -> Path:
    write_mlc_folder(artifact(folder, quantization), folder / "mlc")
    return folder / "mlc"


def arrays(of: Artifact) -> dict[str, Array]:
    return dict(map_tensors(of.canonical_weights))


@pytest.mark.parametrize("quantization", WRITTEN)
@pytest.mark.parametrize("tied", [True, False])
def test_an_artefact_comes_back_bit_for_bit(tmp_path: Path, quantization: str, tied: bool) -> None:
    given = artifact(tmp_path, quantization, tied=tied)
    write_mlc_folder(given, tmp_path / "mlc")
    source = MlcSource(tmp_path / "mlc")
    back = convert(source, tmp_path / "back")
    ours, theirs = arrays(given), arrays(back)
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() and ours[name].dtype == theirs[name].dtype for name in ours)
    assert {info.relative_error for info in back.manifest.tensors.values()} == {0.0}
    assert back.manifest.model == given.manifest.model
    assert source.chat_template == CHAT_TEMPLATE
    write_mlc_folder(back, tmp_path / "again")
    for path in (tmp_path / "mlc").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def loaded_by_tvm(folder: Path) -> tuple[dict[str, Array], Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its files open
        loaded, metadata = tvmjs.load_tensor_cache(str(folder), tvm.cpu())
    return {name: tensor.numpy() for name, tensor in loaded.items()}, metadata


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_comes_back(name: str, tmp_path: Path) -> None:
    """Gemma 3's queries, keys and values are apart in MLC's folders, Qwen's and Phi-3's tensors have other names."""
    given = convert(GgufSource(write_architecture(tmp_path / "tiny.gguf", name)), tmp_path / "given", "q4f16_1")
    write_mlc_folder(given, tmp_path / "mlc")
    source = MlcSource(tmp_path / "mlc")
    back = convert(source, tmp_path / "back")
    assert back.manifest.model == given.manifest.model
    ours, theirs = arrays(given), arrays(back)
    assert ours.keys() == theirs.keys()
    for key, array in ours.items():
        assert (theirs[key] == (array.astype(np.float16) if array.dtype == np.float32 else array)).all(), key
    for _, tensor in source.stream():
        rows = slice(3, tensor.shape[0] - 5)
        assert (tensor.part(rows).values() == tensor.values()[rows]).all()


def test_tvm_loads_what_is_written(tmp_path: Path) -> None:
    given = artifact(tmp_path)
    write_mlc_folder(given, tmp_path / "mlc")
    loaded, metadata = loaded_by_tvm(tmp_path / "mlc")
    ours = arrays(given)
    assert metadata["ParamSize"] == len(loaded) and loaded.keys() == ours.keys()
    assert all((loaded[name] == ours[name]).all() for name in ours)
    assert str(loaded["model.norm.weight"].dtype) == "float16"


def dumped_by_tvm(folder: Path, encoding: str, quantization: str = "q4f16_1") -> dict[str, Array]:
    """Write the folder as MLC-LLM does, with TVM's own dump, and return what is in it."""
    mlc_folder(folder, quantization)
    params, _ = loaded_by_tvm(folder / "mlc")
    for path in (folder / "mlc").glob("*cache*.json"):
        path.unlink()
    with contextlib.redirect_stdout(io.StringIO()):
        tvmjs.dump_tensor_cache(params, str(folder / "mlc"), encoding, show_progress=False)
    return params


def test_codes_of_a_folder_that_tvm_dumped_are_kept_bit_for_bit(tmp_path: Path) -> None:
    params = dumped_by_tvm(tmp_path, "f32-to-bf16")
    stored = arrays(convert(MlcSource(tmp_path / "mlc"), tmp_path / "out"))
    assert stored.keys() == params.keys()
    assert all((stored[name] == params[name]).all() for name in params)


def test_floats_that_tvm_cut_to_bfloat16_are_read(tmp_path: Path) -> None:
    params = dumped_by_tvm(tmp_path, "f32-to-bf16", "q0f32")
    for name, tensor in MlcSource(tmp_path / "mlc").stream():
        np.testing.assert_allclose(tensor.values(), params[f"{name}.weight"], rtol=2**-8)


def test_an_unquantized_embedding_beside_quantized_matrices(tmp_path: Path) -> None:
    params = dumped_by_tvm(tmp_path, "raw")
    codes = {name: params.pop(f"model.embed_tokens.{name}") for name in ("q_weight", "q_scale")}
    params["model.embed_tokens.weight"] = np.ones((320, 64), np.float16)
    assert codes["q_weight"].shape == (320, 8)
    with contextlib.redirect_stdout(io.StringIO()):
        tvmjs.dump_tensor_cache(params, str(tmp_path / "mlc"), "raw", show_progress=False)
    rewrite(tmp_path / "mlc", quantization="q4f16_2")
    formats = {name: tensor.format.name for name, tensor in MlcSource(tmp_path / "mlc").stream()}
    assert (formats["model.embed_tokens"], formats["model.layers.0.mlp.down_proj"]) == ("f16", "q4f16_1")


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "mlc-chat-config.json"
    write_json(path, {**json.loads(path.read_text()), **changes})


def test_the_written_conversation_is_that_of_the_chat_template(tmp_path: Path) -> None:
    folder = mlc_folder(tmp_path)
    written = json.loads((folder / "mlc-chat-config.json").read_text())["conv_template"]
    assert (written["name"], written["stop_token_ids"]) == ("chatml", [2, 0])
    write_json(folder / "tokenizer_config.json", {})
    template = ChatTemplate(MlcSource(folder).chat_template or "")
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert template.render(talk) == ChatTemplate(CHAT_TEMPLATE).render(talk)


def test_a_part_of_the_rows_is_that_part(tmp_path: Path) -> None:
    for _, tensor in MlcSource(mlc_folder(tmp_path)).stream():
        rows = slice(3, 40)
        assert (tensor.part(rows).values() == tensor.values()[rows]).all()


def test_its_conv_template_is_used_where_there_is_no_chat_template(tmp_path: Path) -> None:
    folder = mlc_folder(tmp_path)
    write_json(folder / "tokenizer_config.json", {})
    roles = {"user": "<|im_start|>user", "assistant": "<|im_start|>assistant"}
    conversation = {"roles": roles, "seps": ["<|im_end|>"], "system_prefix_token_ids": [1], "stop_token_ids": [2, 9999]}
    rewrite(folder, conv_template=conversation, eos_token_id=7)
    source = MlcSource(folder)
    assert "<|im_start|>user" in (source.chat_template or "")
    assert (source.config.bos_token_id, source.config.eos_token_ids) == (1, (2,))
    rewrite(folder, conv_template="chatml")
    assert MlcSource(folder).config.eos_token_ids == (2, 0)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
    "no weights": (lambda f: no_table(f), "has no weights"),
    "columns first": (lambda f: rewrite(f, quantization="q4f16_0"), "'q4f16_0' is not supported: its codes lie column"),
    "another scheme": (lambda f: rewrite(f, quantization="q4f16_awq"), "'q4f16_awq' is not supported: known are q0f16"),
    "another format": (lambda f: rewrite(f, quantization="q0f16"), "it is quantized, and should not be"),
    "8 bits": (lambda f: rewrite(f, quantization="q8f16_1"), "of another shape: .*q_weight is"),
    "another model": (lambda f: rewrite(f, model_type="rwkv"), "architecture 'rwkv' is not supported; supported are"),
    "more layers": (lambda f: shape(f, num_hidden_layers=3), r"missing: model\.layers\.2\.input_layernorm"),
    "fewer layers": (lambda f: shape(f, num_hidden_layers=1), r"left over: model\.layers\.1\.input_layernorm"),
    "many layers": (lambda f: shape(f, num_hidden_layers=9999), "9999 layers, 23 tensors"),
    "no shape": (lambda f: rewrite(f, model_config=None), "is missing"),
    "another template": (lambda f: rewrite(f, conv_template="llama3"), "did you mean 'llama-3'?"),
    "no roles": (lambda f: rewrite(f, conv_template={}), "conv_template: roles: does not give"),
}


def no_table(folder: Path) -> None:
    for path in folder.glob("*cache.json"):
        path.unlink()


def shape(folder: Path, **changes: Any) -> None:
    rewrite(
        folder, model_config={**json.loads((folder / "mlc-chat-config.json").read_text())["model_config"], **changes}
    )


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_is_one_clear_line(name: str, tmp_path: Path) -> None:
    folder = mlc_folder(tmp_path)
    damage, says = DAMAGES[name]
    damage(folder)
    with pytest.raises(KvscapeError, match=says) as caught:
        MlcSource(folder)
    assert "\n" not in str(caught.value)


def test_a_corrupted_shard_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = mlc_folder(tmp_path)
    shard = folder / "params_shard_0.bin"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(KvscapeError, match="its md5sum is another"):
        convert(MlcSource(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_mlc_has_no_name_for(tmp_path: Path) -> None:
    source = HuggingFaceSource(write_tiny_folder(tmp_path / "hf"))
    with pytest.raises(ConfigError, match="MLC-LLM has no weights in q4af16_1: its quantizations are q0f16"):
        write_mlc_folder(convert(source, tmp_path / "a", "q4af16_1"), tmp_path / "mlc")
    with pytest.raises(ConfigError, match="no weights in f16 and q4f16_1"):
        write_mlc_folder(convert(source, tmp_path / "b", "q4f16_1", "q0f16"), tmp_path / "mlc")
    assert not (tmp_path / "mlc").exists()


def shape_of(model_type: str) -> ModelConfig:
    more: dict[str, Any] = {"head_dim": 16, "sliding_window": 32, "use_sliding_window": True, "max_window_layers": 1}
    return model_config(tiny_config(model_type=model_type, **more), "config.json")


@pytest.mark.parametrize("model_type", DEFAULTS)
def test_every_model_types_shape_comes_back_from_mlcs_words(model_type: str) -> None:
    given = shape_of(model_type)
    words = hf_words({"model_type": model_type, "model_config": mlc_model_config(given)}, given.tie_word_embeddings)
    assert model_config(words, "mlc-chat-config.json") == given


@pytest.mark.parametrize("model_type", DEFAULTS)
def test_every_model_types_tensors_are_there_once(model_type: str) -> None:
    given = shape_of(model_type)
    parts = [part for name, size in canonical_shapes(given).items() for part in mlc_parts(given, name, size[0])]
    assert len({name for name, _ in parts}) == len(parts)
    rows = sum(size[0] for size in canonical_shapes(given).values())
    assert sum(count for _, count in parts) == rows


# A layer's names as MLC-LLM's own model classes have them.
NAMES = {
    "llama": ["model.embed_tokens", "model.layers.0.self_attn.qkv_proj"],
    "qwen2": ["model.layers.0.self_attn.c_attn", "model.layers.0.self_attn.c_attn.bias"],
    "qwen3": ["model.layers.0.self_attn.c_attn", "model.layers.0.self_attn.q_norm"],
    "gemma3_text": ["language_model.model.layers.0.self_attn.k_proj", "language_model.model.embed_tokens"],
    "phi3": ["transformer.embd", "transformer.h.0.ln", "transformer.h.0.mixer.out_proj", "transformer.norm"],
}


@pytest.mark.parametrize("model_type", NAMES)
def test_names_are_those_of_mlcs_classes(model_type: str) -> None:
    given = shape_of(model_type)
    names = {n for name, size in canonical_shapes(given).items() for n, _ in mlc_parts(given, name, size[0])}
    assert names >= set(NAMES[model_type])


def test_a_configuration_as_mlc_wrote_it() -> None:
    """Llama-3-8B-Instruct-q4f16_1-MLC's, with its sizes."""
    words: dict[str, Any] = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
    }
    words |= {"rms_norm_eps": 1e-05, "vocab_size": 128256, "position_embedding_base": 500000.0, "head_dim": 128}
    words |= {"context_window_size": 8192, "prefill_chunk_size": 2048, "num_key_value_heads": 8, "rope_scaling": None}
    read = model_config(hf_words({"model_type": "llama", "model_config": words}, tied=False), "mlc-chat-config.json")
    assert (read.rope_theta, read.max_position_embeddings, read.tie_word_embeddings) == (500000.0, 8192, False)
    assert read.layer_groups[0].sliding_window_size == -1


def test_gemma3_as_mlc_wrote_it() -> None:
    text: dict[str, Any] = {
        "hidden_size": 1152,
        "intermediate_size": 6912,
        "num_hidden_layers": 6,
        "position_embedding_base": 1000000,
    }
    text |= {"sliding_window_size": 512, "rope_scaling": 0, "kwargs": {"max_position_embeddings": 32768}}
    words: dict[str, Any] = {"text_config": text, "vocab_size": 262144, "context_window_size": 8192, "kwargs": {}}
    read = model_config(hf_words({"model_type": "gemma3", "model_config": words}, tied=True), "mlc-chat-config.json")
    assert (read.model_type, read.vocab_size, read.sliding_window) == ("gemma3_text", 262144, 512)
    assert read.max_position_embeddings == 32768


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_damaged_texts_never_break_the_reader(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed-mlc"
    if not folder.exists():
        mlc_folder(folder)
    name = data.draw(st.sampled_from(["mlc-chat-config.json", "tensor-cache.json", "tokenizer_config.json"]))
    path = folder / "mlc" / name
    whole = path.read_bytes()
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        path.write_bytes(content)
        source = MlcSource(folder / "mlc")
        assert source.chat_template is not None
        dict(source.stream())
    except KvscapeError as error:
        assert "\n" not in str(error)
    finally:
        path.write_bytes(whole)


def test_codes_are_those_of_the_reference(tmp_path: Path) -> None:
    for name, tensor in MlcSource(mlc_folder(tmp_path)).stream():
        if name.endswith("down_proj"):
            of = dict(HuggingFaceSource(tmp_path / "hf").stream())[name]
            expected = encode(of.values(), FORMATS["q4f16_1"])
            assert all((tensor.kept()[part] == array).all() for part, array in expected.items())


def test_an_unsupported_quantization_is_refused_before_weights_are_looked_at(tmp_path: Path) -> None:
    config = {"model_type": "llama", "model_config": tiny_config(), "quantization": "q4f16_ft"}
    write_json(tmp_path / "mlc-chat-config.json", config)
    with pytest.raises(UnsupportedModelError, match="'q4f16_ft' is not supported"):
        MlcSource(tmp_path)
