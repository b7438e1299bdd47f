"""``random://`` is a model's name like any other."""

import json

import pytest

from commands import Run
from kvscape.config import BuildConfig
from kvscape.errors import UnsupportedModelError
from kvscape.subjects.llamacpp.model_file import source_model


def test_a_made_up_model_answers_from_the_command_line(kvscape: Run) -> None:
    arguments = ("--model", "random://tiny?seed=1", "--quantization", "q4f16_1", "--max-tokens", "4", "--raw", "--json")
    done = kvscape("generate", *arguments, "--prompt", "hello")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["prompt_token_ids"] == [*b"hello"] and len(answer["token_ids"]) == 4


def test_an_unknown_shape_is_one_clear_line(kvscape: Run) -> None:
    done = kvscape("generate", "--model", "random://tini", "--prompt", "hello")
    assert done.returncode == 2
    assert done.stderr.strip() == ("error: no model random://tini: only known shapes are made up; did you mean 'tiny'?")


def test_llama_cpp_cannot_read_it() -> None:
    with pytest.raises(UnsupportedModelError, match=r"llama\.cpp cannot read random://tiny: it reads GGUF files"):
        source_model(BuildConfig("random://tiny"))
