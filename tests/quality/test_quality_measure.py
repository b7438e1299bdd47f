from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from kvscape.analysis.memory import Memory
from kvscape.config import BuildConfig, DesignPoint, EngineConfig, ModelConfig, Workload
from kvscape.quality import Settings, Text, measure_perplexity, quality_point
from kvscape.subjects import Token

POINT = DesignPoint(
    build=BuildConfig(quantization="q8f16_1"),
    engine=EngineConfig(context_window_size=4096, max_batch_size=4, kv_dtype="int8"),
    workload=Workload(prompt_tokens=64),
)
SETTINGS = Settings("llamacpp", context=64, limit=2)


class EvenSubject:
    """Every token has probability 1/4; one character is one token."""

    bits_per_weight = 0.0
    build_key = "even"
    kernels: tuple[str, ...] = ()
    ordinary_token_ids: Sequence[int] = ()
    leading_token_id = 7

    def __init__(self) -> None:
        self.first_tokens: list[int] = []

    @property
    def model(self) -> ModelConfig:
        raise NotImplementedError

    @property
    def memory(self) -> Memory:
        raise NotImplementedError

    predicted_memory = memory

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        raise NotImplementedError

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Iterator[list[Token]]:
        raise NotImplementedError

    def score(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        self.first_tokens.append(token_ids[0])
        return np.full(len(token_ids) - 1, np.log(0.25), np.float32)

    def token_bytes(self, token_id: int) -> bytes:
        return chr(token_id).encode()

    def score_chunks(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        yield self.score(token_ids)

    def distributions(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        raise NotImplementedError

    def close(self) -> None: ...


def test_the_record_says_what_was_scored_and_how() -> None:
    record = measure_perplexity(EvenSubject(), POINT, SETTINGS, Text("letters", "x" * 200))
    assert record.perplexity == pytest.approx(4)
    assert record.standard_error == pytest.approx(0, abs=1e-6)
    assert record.tokens_scored == 2 * 31
    assert (record.protocol, record.context, record.text) == ("llamacpp", 64, "letters")
    assert record.text_sha256 == Text("", "x" * 200).sha256


def test_the_models_leading_token_is_used() -> None:
    subject = EvenSubject()
    measure_perplexity(subject, POINT, SETTINGS, Text("letters", "x" * 200))
    assert subject.first_tokens == [7, 7]


def test_progress_knows_the_number_of_windows() -> None:
    totals: list[int] = []

    def started(total: int) -> None:
        totals.append(total)

    measure_perplexity(EvenSubject(), POINT, SETTINGS, Text("x", "x" * 200), lambda n: lambda: started(n))
    assert totals == [2, 2]


def test_a_quality_point_keeps_only_what_changes_quality() -> None:
    point = quality_point(POINT, SETTINGS)
    assert point.build == POINT.build
    assert point.engine == EngineConfig(context_window_size=64, prefill_chunk_size=64, kv_dtype="int8")
    assert point.workload == Workload()
