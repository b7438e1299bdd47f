"""A text scored by a server: cut by the tokenizer that is here, which must be the server's own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_openai import Behaviour, FakeOpenAI, fake_openai
from kvscape.cli.main import run
from kvscape.config import BuildConfig, DesignPoint, EndpointConfig
from kvscape.errors import EndpointError
from kvscape.plain_text import Text
from kvscape.quality import Settings, measure_perplexity
from kvscape.subjects.endpoint.scores import find_tokenizer, load_scores


def point(fake: FakeOpenAI, model: Path) -> DesignPoint:
    return DesignPoint(BuildConfig(str(model)), subject="endpoint", server=EndpointConfig(endpoint=fake.url))


@pytest.fixture
def served(tiny_gguf: Path) -> Behaviour:
    return Behaviour(encode=find_tokenizer(str(tiny_gguf))[0].encode)


def test_each_token_after_the_first_has_its_score(tiny_gguf: Path, served: Behaviour) -> None:
    with fake_openai(served) as fake:
        scores = load_scores(point(fake, tiny_gguf))
        np.testing.assert_allclose(scores.score([5, 7, 9]), [-0.07, -0.09], rtol=1e-6)
    assert fake.asked[-1] == {
        "model": "tiny", "prompt": [5, 7, 9], "max_tokens": 0, "echo": True, "logprobs": 1,
    }  # fmt: skip


def test_a_perplexity_is_that_of_the_servers_scores(tiny_gguf: Path, served: Behaviour) -> None:
    with fake_openai(served) as fake:
        scores = load_scores(point(fake, tiny_gguf))
        text = Text("t", "the cat and the hat " * 20)
        record = measure_perplexity(scores, point(fake, tiny_gguf), Settings("windows", 16, 2), text)
    windows = [request["prompt"] for request in fake.asked if isinstance(request["prompt"], list)]
    expected = np.mean([0.01 * token for window in windows for token in window[1:]])
    assert record.mean_nll == pytest.approx(expected, rel=1e-5)
    assert record.bits_per_weight is None and record.parameters["endpoint"] == fake.url


@pytest.mark.parametrize("wrong", [{"echoes": False}, {"score": str}, {"score": lambda token: float("nan")}])
def test_a_server_that_echoes_no_scores_is_said(tiny_gguf: Path, served: Behaviour, wrong: Any) -> None:
    with fake_openai(replace(served, **wrong)) as fake, pytest.raises(EndpointError) as error:
        load_scores(point(fake, tiny_gguf))
    assert "gives no log-probabilities of a prompt" in str(error.value) and "\n" not in str(error.value)


def test_another_tokenizer_is_noticed(tiny_gguf: Path) -> None:
    with fake_openai() as fake, pytest.raises(EndpointError, match="the endpoint's tokenizer is another one"):
        load_scores(point(fake, tiny_gguf))


def test_the_command_scores_a_text(
    tiny_gguf: Path,
    served: Behaviour,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path))
    (tmp_path / "t.txt").write_text("the cat and the hat " * 20)
    flags = ["--text", str(tmp_path / "t.txt"), "--context", "16", "--limit", "2"]
    with fake_openai(served) as fake:
        assert run(["ppl", "--endpoint", fake.url, "--model", str(tiny_gguf), *flags]) == 0
        assert run(["ppl", "--endpoint", fake.url, *flags]) == 2
        assert run(["ppl", "--endpoint", fake.url, "--model", "m", "--reference-quantization", "q0f32", *flags]) == 2
    out, err = capsys.readouterr()
    assert "perplexity" in out
    assert "name the model that the server has" in err and "a server gives no distributions" in err
