"""The same model from other kinds of folders answers alike."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from commands import Run
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


def test_a_hugging_face_folder_from_the_command_line(folder: Path, kvscape: Run) -> None:
    done = kvscape("generate", "--model", str(folder), "--prompt", "the thing", "--max-tokens", "4", "--json")
    assert done.returncode == 0, done.stderr
    assert kvscape("chat", "--model", str(folder), stdin="the thing\n/exit\n").returncode == 0
