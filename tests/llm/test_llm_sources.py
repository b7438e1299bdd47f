"""The same model from other kinds of folders answers alike."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tvm.contrib import tvmjs

from commands import Run, run_kvscape
from hub_server import HubServer, served
from kvscape import LLM
from kvscape.weights.readers.huggingface import HuggingFaceSource
from tiny_folder import tiny_config, write_json, write_tiny_folder

IDS = [5, 17, 80, 4, 260, 33, 91, 7, 7, 120]
EXACT = {"quantization": "q0f32", "kv_dtype": "f32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("sources") / "tiny", shards=2)


def test_a_hugging_face_folder_has_transformers_probabilities(folder: Path, open_llm: Callable[..., LLM]) -> None:
    transformers = pytest.importorskip("transformers", reason="the reference extra is not installed")
    from reference import reference_logprobs

    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="eager")
    with open_llm(folder, **EXACT) as llm:
        np.testing.assert_allclose(llm.score(IDS), reference_logprobs(theirs, IDS), atol=1e-5)


def served_folder(folder: Path) -> HubServer:
    return HubServer({"main": {path.name: path.read_bytes() for path in folder.iterdir()}})


def test_a_repository_of_the_hub_from_the_command_line(
    folder: Path, kvscape: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(served_folder(folder)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        done = kvscape("generate", "--model", "HF://org/name", "--prompt", "the thing", "--max-tokens", "4", "--json")
    local = kvscape("generate", "--model", str(folder), "--prompt", "the thing", "--max-tokens", "4", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout == local.stdout


def test_an_architecture_that_cannot_run_is_refused_before_its_weights_are_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tiny_folder(tmp_path / "mamba", model_type="mamba")
    with served(served_folder(folder)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        done = run_kvscape(tmp_path / "home", "chat", "HF://org/name")
    assert (done.returncode, done.stdout) == (2, "")
    assert "architecture 'mamba' is not supported; supported are" in done.stderr.splitlines()[-1]
    assert not any("safetensors" in request for request in hub.requests)


def test_a_hugging_face_folder_from_the_command_line(folder: Path, kvscape: Run) -> None:
    done = kvscape("generate", "--model", str(folder), "--prompt", "the thing", "--max-tokens", "4", "--json")
    assert done.returncode == 0, done.stderr
    assert kvscape("chat", "--model", str(folder), stdin="the thing\n/exit\n").returncode == 0


def mlc_folder(home: Path, folder: Path, output: Path, quantization: str) -> Path:
    flags = ["--quantization", quantization, "--format", "mlc", "--output", str(output), "--json"]
    done = run_kvscape(home, "convert", str(folder), *flags)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mlc_folder"] == str(output)
    return output


@pytest.mark.parametrize("quantization", ["q4f16_1", "q0f32"])
def test_an_mlc_folder_scores_as_the_folder_it_was_made_of(
    quantization: str, folder: Path, kvscape_home: Path, tmp_path: Path, open_llm: Callable[..., LLM]
) -> None:
    made = mlc_folder(kvscape_home, folder, tmp_path / "mlc", quantization)
    with open_llm(folder, quantization=quantization, kv_dtype="f32") as llm:
        expected = llm.score(IDS)
    with open_llm(made, kv_dtype="f32") as llm:
        assert llm.artifact.manifest.tensors["model.embed_tokens"].format == {"q0f32": "f32"}.get(
            quantization, quantization
        )
        # The same codes; norms are f16 in a quantization of f16.
        np.testing.assert_allclose(llm.score(IDS), expected, atol=2e-3)


def test_what_tvm_dumped_scores_as_the_safetensors_do(
    folder: Path, tmp_path: Path, open_llm: Callable[..., LLM]
) -> None:
    source = HuggingFaceSource(folder)
    params = {f"{name}.weight": tensor.values() for name, tensor in source.stream()}
    with contextlib.redirect_stdout(io.StringIO()):
        tvmjs.dump_tensor_cache(params, str(tmp_path / "mlc"), "raw", show_progress=False)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, tmp_path / "mlc")
    config = {"model_type": "llama", "quantization": "q0f32", "model_config": tiny_config()}
    write_json(tmp_path / "mlc" / "mlc-chat-config.json", {**config, "conv_template": "chatml"})
    with open_llm(folder, **EXACT) as llm:
        expected = llm.score(IDS)
    with open_llm(tmp_path / "mlc", **EXACT) as llm:
        np.testing.assert_allclose(llm.score(IDS), expected, atol=1e-6)


def test_mlcs_own_commands(
    folder: Path,
    kvscape_home: Path,
    new_home: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = mlc_folder(kvscape_home, folder, tmp_path / "mlc", "q4f16_1")
    local = run_kvscape(kvscape_home, "chat", str(made), stdin="the thing\n/exit\n")
    asked = ["--prompt", "the thing", "--max-tokens", "4", "--json"]
    generated = run_kvscape(kvscape_home, "generate", "--model", str(made), *asked)
    with served(served_folder(made)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        remote = run_kvscape(new_home(tmp_path / "home"), "chat", "HF://org/name", stdin="the thing\n/exit\n")
    assert (local.returncode, generated.returncode, remote.returncode) == (0, 0, 0), remote.stderr
    assert remote.stdout == local.stdout
    assert any("params_shard_0.bin" in request for request in hub.requests)
