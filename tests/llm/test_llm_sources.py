"""The same model from other kinds of folders answers alike."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from commands import Run, run_kvscape
from hub_server import HubServer, served
from kvscape import LLM
from tiny_folder import write_tiny_folder

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
