from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from kvscape.analysis.memory import Memory, Workspace, predict_memory
from kvscape.config import KV_DTYPES, EngineConfig, ModelConfig
from kvscape.engine import Output, Request
from kvscape.errors import ConfigError
from kvscape.subjects import SUBJECTS, Token, find_subject
from kvscape.subjects.kvscape_subject import KvscapeSubject

MODEL = ModelConfig(
    model_type="llama",
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    vocab_size=6,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    max_position_embeddings=2048,
    tie_word_embeddings=True,
)


class FakeEngine:
    """Reads one prompt a step, then gives one token a step to every request; a token is the request's number."""

    config = EngineConfig(context_window_size=64)

    def __init__(self) -> None:
        self.added: list[Request] = []
        self._left: dict[str, int] = {}
        self._unread: list[str] = []

    def add(self, request: Request) -> None:
        self.added.append(request)
        self._unread.append(request.request_id)
        self._left[request.request_id] = request.params.max_tokens

    @property
    def has_work(self) -> bool:
        return bool(self._left)

    def step(self) -> list[Output]:
        if self._unread:
            self._unread.pop(0)
            return []
        outputs = [Output(name, (int(name),)) for name in self._left]
        self._left = {name: left - 1 for name, left in self._left.items() if left > 1}
        return outputs

    def score(self, token_ids: list[int]) -> Any:
        return np.zeros(len(token_ids) - 1, np.float32)

    def score_chunks(self, token_ids: list[int]) -> Any:
        yield self.score(token_ids)

    def distributions(self, token_ids: list[int]) -> Any:
        yield np.zeros((len(token_ids) - 1, MODEL.vocab_size), np.float32)


class FakeTokenizer:
    bos_token_id = 1

    def token_bytes(self, token_id: int) -> bytes:
        return b"" if token_id in (1, 2) else b"x"

    def encode(self, text: str) -> list[int]:
        return [3] * len(text)

    def decode(self, token_ids: list[int]) -> str:
        return "x" * len(token_ids)


class FakeLLM:
    closed = False

    def __init__(self) -> None:
        workspaces = {"f16": Workspace(100, 1, 1, 1)}
        self.engine, self.tokenizer = FakeEngine(), FakeTokenizer()
        self.memory = Memory(10, 20, 30, 40)
        self.metadata = SimpleNamespace(
            layout="rows16",
            key="library",
            model=MODEL,
            workspaces=workspaces,
            kernels=("gemv", "append_f16", "append_int8"),
            kv_dtypes=KV_DTYPES,
        )
        self.artifact = SimpleNamespace(
            manifest=SimpleNamespace(
                bits_per_weight=5.0, weights_key="weights", tensors={"w": SimpleNamespace(format="f16", shape=(16, 32))}
            )
        )

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def llm() -> FakeLLM:
    return FakeLLM()


def subject(llm: FakeLLM) -> KvscapeSubject:
    return KvscapeSubject(cast(Any, llm))


def test_every_step_is_seen_as_it_happens(llm: FakeLLM) -> None:
    steps = list(subject(llm).generate([[3, 4], [5, 0]], max_tokens=2))
    both = [Token(0, 0), Token(1, 1)]
    assert steps == [[], [], both, both]


def test_the_answer_has_its_full_length_whatever_the_model_says(llm: FakeLLM) -> None:
    list(subject(llm).generate([[3, 4]], max_tokens=7))
    request = llm.engine.added[0]
    assert request.prompt_token_ids == (3, 4)
    assert (request.params.max_tokens, request.params.ignore_eos, request.params.temperature) == (7, True, 0.0)


def test_a_request_is_added_when_its_time_comes_and_nothing_spins_meanwhile(llm: FakeLLM) -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    measured = KvscapeSubject(cast(Any, llm), lambda: now[0], sleep)
    came = []
    for tokens in measured.serve([[3], [4], [5]], 2, [0.0, 0.5, 10.0]):
        came += [(now[0] - 100, token) for token in tokens]
        now[0] += 1.0  # a step takes a second
    # The second request comes during the first step; then nothing is to do until the third one comes.
    assert came == [
        (2.0, Token(0, 0)), (2.0, Token(1, 1)), (3.0, Token(0, 0)), (3.0, Token(1, 1)),
        (11.0, Token(2, 2)), (12.0, Token(2, 2)),
    ]  # fmt: skip
    assert slept == [6.0]


def test_ordinary_tokens_have_text(llm: FakeLLM) -> None:
    assert subject(llm).ordinary_token_ids == [0, 3, 4, 5]


def test_allocated_and_predicted_bytes_are_told_apart(llm: FakeLLM) -> None:
    measured = subject(llm)
    assert measured.memory == llm.memory
    assert measured.predicted_memory == predict_memory(MODEL, llm.engine.config, 16 * 32 * 2, llm.metadata.workspaces)


def test_it_answers_for_the_model_and_its_tokenizer(llm: FakeLLM) -> None:
    measured = subject(llm)
    assert (measured.model, measured.kernels, measured.bits_per_weight) == (MODEL, ("gemv", "append_f16"), 5.0)
    assert (measured.leading_token_id, measured.encode("ab"), measured.decode([3])) == (1, [3, 3], "x")
    assert measured.score([3, 4, 5]).shape == (2,)
    assert [part.shape for part in measured.score_chunks([3, 4, 5])] == [(2,)]
    assert (measured.token_bytes(1), measured.token_bytes(3), measured.build_key) == (b"", b"x", "weights library")
    assert [rows.shape for rows in measured.distributions([3, 4, 5])] == [(2, MODEL.vocab_size)]


def test_closing_it_closes_the_model(llm: FakeLLM) -> None:
    subject(llm).close()
    assert llm.closed


def test_an_unknown_subject_names_the_near_match() -> None:
    assert find_subject("kvscape") is SUBJECTS["kvscape"]
    with pytest.raises(ConfigError, match="did you mean 'kvscape'"):
        find_subject("kv-scape")
