from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kvscape.analysis.memory import Memory
from kvscape.config import BuildConfig, DesignPoint, EngineConfig, ModelConfig, Workload
from kvscape.quality import Running, Settings, Text, measure_perplexity, open_journal, quality_point
from kvscape.results import PerplexityRecord
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
    leading_token_id: int | None = 7

    def __init__(self) -> None:
        self.first_tokens: list[int] = []

    model = ModelConfig("llama", 64, 128, 2, 4, 2, 16, 100, 1e-5, 1e4, 2048, True, eos_token_ids=(2,))

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


def test_progress_knows_the_number_of_tokens() -> None:
    told: list[Running] = []
    measure_perplexity(EvenSubject(), POINT, SETTINGS, Text("x", "x" * 200), told.append)
    assert [(one.tokens_done, one.tokens_total) for one in told] == [(31, 62), (62, 62)]


def test_bits_per_byte_count_the_bytes_of_the_scored_tokens() -> None:
    record = measure_perplexity(EvenSubject(), POINT, SETTINGS, Text("x", "é€" * 100))  # two bytes and three
    assert record.bits_per_byte == pytest.approx(2 / 2.5, rel=0.02)


def test_the_record_tells_what_must_be_equal_for_two_to_compare() -> None:
    record = measure_perplexity(EvenSubject(), POINT, SETTINGS, Text("letters", "x" * 200))
    assert (record.stride, record.limit, record.text_tokens, record.unit) == (0, 2, 200, "token")
    for other in (Settings("windows", 64, 2), Settings("llamacpp", 32, 2), Settings("llamacpp", 64, 1)):
        assert measure_perplexity(EvenSubject(), POINT, other, Text("", "x" * 200)).measure != record.measure
    assert measure_perplexity(EvenSubject(), POINT, SETTINGS, Text("other name", "x" * 200)).measure == record.measure


class HardMiddle(EvenSubject):
    """The tokens 100 to 199 of a stream have probability 1/16."""

    leading_token_id = None

    def score_chunks(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        logprobs = self.score(token_ids)
        logprobs[100:200] *= 2
        yield logprobs[:70]
        yield logprobs[70:]


def test_a_stream_keeps_its_curve() -> None:
    record = measure_perplexity(HardMiddle(), POINT, Settings("stream", 1000, stride=100), Text("x", "x" * 351))
    assert [mark["tokens"] for mark in record.curve] == [100, 200, 300, 350]
    assert [mark["perplexity"] for mark in record.curve] == pytest.approx([4, 16, 4, 4])
    assert [mark["running_perplexity"] for mark in record.curve] == pytest.approx([4, 8, 4 ** (4 / 3), 4 ** (9 / 7)])
    assert record.perplexity == pytest.approx(record.curve[-1]["running_perplexity"])


def test_words_are_counted_in_the_documents() -> None:
    text = Text("two", "", documents=("ab cd", "efgh"))
    record = measure_perplexity(EvenSubject(), POINT, Settings("word", 64), text)
    assert (record.unit, record.tokens_scored, record.text_tokens) == ("word", 9, 9)
    assert record.mean_nll == pytest.approx(9 * np.log(4) / 3)
    assert record.bits_per_byte == pytest.approx(2)


def test_the_engine_has_room_for_the_token_before_a_documents_window() -> None:
    assert quality_point(POINT, Settings("word", 64)).engine.context_window_size == 65


class Interrupted(EvenSubject):
    """Ends in its second window."""

    def score(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        if len(self.first_tokens) == 1:
            raise KeyboardInterrupt
        return super().score(token_ids)


def test_an_interrupted_measurement_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path))
    text = Text("letters", "".join(map(chr, range(200, 400))))

    def run(subject: EvenSubject, settings: Settings = SETTINGS, restart: bool = False) -> PerplexityRecord:
        with open_journal(subject, POINT, settings, text, restart) as journal:
            return measure_perplexity(subject, POINT, settings, text, journal=journal)

    with pytest.raises(KeyboardInterrupt):
        run(Interrupted())
    assert len(list((tmp_path / "ppl").iterdir())) == 1
    (other := EvenSubject()).build_key = "other weights"
    run(other)
    assert len(other.first_tokens) == 2
    resumed = EvenSubject()
    assert run(resumed, replace(SETTINGS, limit=3)).tokens_scored == 3 * 31
    assert len(resumed.first_tokens) == 2 and not list((tmp_path / "ppl").iterdir())
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted())
    run(again := EvenSubject(), restart=True)
    assert len(again.first_tokens) == 2


def test_a_quality_point_keeps_only_what_changes_quality() -> None:
    point = quality_point(POINT, SETTINGS)
    assert point.build == POINT.build
    assert point.engine == EngineConfig(context_window_size=64, prefill_chunk_size=64, kv_dtype="int8")
    assert point.workload == Workload()
