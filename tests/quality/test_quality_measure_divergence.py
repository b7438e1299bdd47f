"""Perplexity and divergence from the same distributions, of fakes and of real tiny models."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from made_logits import direct_kl
from table_subject import TableSubject

from built_tiny import BuildTiny, BuiltTiny
from kvscape.config import BuildConfig, DesignPoint, EngineConfig
from kvscape.engine import Engine
from kvscape.engine.devices.cpu import CpuDevice
from kvscape.errors import ConfigError
from kvscape.plain_text import Text
from kvscape.quality.comparison import Comparison
from kvscape.quality.measure_divergence import Measurement, compare_with_file, compare_with_subject, save_reference
from kvscape.quality.perplexity import Running, scores
from kvscape.quality.protocols import Settings, Window
from kvscape.quality.reference import LiveReference
from kvscape.quality.reference_format import ReferenceFormat
from kvscape.quality.row_scorer import RowScorer
from kvscape.results import PerplexityRecord

POINT = DesignPoint(BuildConfig(quantization="q4f16_1"), EngineConfig(kv_dtype="int8"))
ORIGINAL_POINT = DesignPoint(BuildConfig(quantization="q0f32"), EngineConfig(kv_dtype="f32"))
SETTINGS, TEXT = Settings("llamacpp", 32, 3), Text("letters", "the quick brown fox jumps " * 8)
FINE, GIB = ReferenceFormat(59, "16bit"), 2**30


def run(noise: float = 0.0, point: DesignPoint = POINT, **others: Any) -> Measurement:
    return Measurement(cast(Any, TableSubject(noise, **others)), point, SETTINGS, TEXT)


def original() -> Measurement:
    return run(point=ORIGINAL_POINT)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    save_reference(original(), tmp_path / "one.reference", FINE, GIB)
    return tmp_path / "one.reference"


def test_keeping_and_comparing_change_no_perplexity(kept: Path, tmp_path: Path) -> None:
    plain = save_reference(run(0.3), tmp_path / "other.reference", FINE, GIB)
    record = compare_with_file(run(0.3), kept)
    assert replace(record, divergence=None) == plain
    assert (record.tokens_scored, record.protocol) == (45, "llamacpp")


def test_a_file_and_a_model_beside_it_say_the_same(kept: Path) -> None:
    stored = compare_with_file(run(0.3), kept).divergence
    live = compare_with_subject(run(0.3), cast(Any, TableSubject()), ORIGINAL_POINT).divergence
    assert stored is not None and live is not None
    for name, value in live.numbers.items():
        assert stored.numbers[name] == pytest.approx(value, abs=1e-5, rel=1e-6), name
    assert 0.01 < live.mean_kl_nats < 1 and live.top1_agreement < 1
    candidate = compare_with_file(run(0.3), kept).perplexity
    assert live.perplexity_ratio == pytest.approx(candidate / live.reference_perplexity)


def test_a_record_says_what_it_was_compared_with(kept: Path) -> None:
    record = compare_with_file(run(0.3), kept)
    assert record.parameters["quantization"] == "q4f16_1" and record.divergence is not None
    reference = record.divergence.reference
    assert (reference["quantization"], reference["kv_dtype"], reference["build_key"]) == ("q0f32", "f32", "table")
    assert reference["kept"] == "top 59, rest as 16bit"
    assert PerplexityRecord.from_json(record.to_json()) == record


def test_a_model_is_its_own_reference(kept: Path) -> None:
    found = compare_with_file(original(), kept).divergence
    assert found is not None
    assert found.mean_kl_nats < 1e-6 and found.kl_max_nats < 1e-6
    assert (found.top1_agreement, found.top5_agreement) == (1, 1)
    assert found.perplexity_ratio == pytest.approx(1, abs=1e-6)


def test_another_tokenizer_is_refused(kept: Path) -> None:
    with pytest.raises(ConfigError, match=r"one\.reference was made with another tokenizer"):
        compare_with_file(run(letters="y"), kept)
    with pytest.raises(ConfigError, match="was made with another tokenizer"):
        compare_with_subject(run(), cast(Any, TableSubject(letters="y")), ORIGINAL_POINT)


def test_one_that_is_too_large_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this reference would take"):
        save_reference(original(), tmp_path / "one.reference", FINE, 1000)
    assert not list(tmp_path.iterdir())


def test_progress_is_told(kept: Path) -> None:
    heard: list[Running] = []
    compare_with_file(run(0.3), kept, heard.append)
    assert heard[-1].tokens_done == heard[-1].tokens_total == 45


TOKENS = np.random.default_rng(6).integers(3, 320, 150).tolist()
WINDOWS = [Window(TOKENS[:100], 51), Window(TOKENS[50:], 1)]


class Tiny:
    """A tiny model's own engine; each has chunks of its own."""

    def __init__(self, built: BuiltTiny, chunk: int) -> None:
        config = EngineConfig(context_window_size=256, prefill_chunk_size=chunk, kv_dtype="f16")
        self._engine = Engine(CpuDevice(built.library, built.packed_weights, threads=2), config)
        self.distributions = self._engine.distributions


def kl(reference: Tiny, candidate: Tiny) -> list[Any]:
    comparison = Comparison(LiveReference(reference, WINDOWS))
    scores(RowScorer(candidate, WINDOWS, comparison.look), WINDOWS)
    return [window.kl for window in comparison.windows]


def test_two_tiny_models_differ_as_the_definition_says(built_tiny: BuildTiny) -> None:
    reference, candidate = Tiny(built_tiny("q0f32"), 64), Tiny(built_tiny("auto"), 24)
    for window, got in zip(WINDOWS, kl(reference, candidate), strict=True):
        rows = [
            np.concatenate([part.copy() for part in one.distributions(window.token_ids)])[window.first_target - 1 :]
            for one in (reference, candidate)
        ]
        np.testing.assert_allclose(got, direct_kl(rows[0], rows[1]), atol=1e-5)
        assert got.mean() > 1e-4


def test_a_tiny_model_is_itself(built_tiny: BuildTiny) -> None:
    built = built_tiny("auto")
    assert max(window.max() for window in kl(Tiny(built, 64), Tiny(built, 24))) < 1e-6
