import math
from itertools import product

import numpy as np
import pytest
from made_quality import perplexity

from kvscape.config import DesignPoint
from kvscape.results import PerplexityRecord
from kvscape.study.quality_model import PredictedQuality, QualityModel, cell

FORMATS = {"auto": 28.0, "q8f16_1": 27.5, "q4f16_1": 44.0, "q3f16_1": 90.0}
PRECISIONS = {"f32": 1.0, "f16": 1.0, "int8": 1.004, "int4": 1.06}


def predicted(records: list[PerplexityRecord], **parameters: object) -> PredictedQuality | None:
    return QualityModel.of(records).predict([DesignPoint.from_flat(parameters)])[0]


def test_costs_of_format_and_precision_add_up_in_the_logarithm() -> None:
    cross = [perplexity(value, name) for name, value in FORMATS.items()]
    cross += [perplexity(28.0 * factor, "auto", kv) for kv, factor in PRECISIONS.items() if kv != "f16"]
    for (name, value), (kv, factor) in product(FORMATS.items(), PRECISIONS.items()):
        found = predicted(cross, quantization=name, kv_dtype=kv)
        assert found is not None and found.perplexity == pytest.approx(value * factor)
        assert (found.interval is None) == (name == "auto" or kv == "f16")


def test_a_measured_perplexity_is_itself_whatever_the_others_say() -> None:
    odd = [perplexity(20), perplexity(21, kv_dtype="int8"), perplexity(30, "q4f16_1"),
           perplexity(99, "q4f16_1", "int8")]  # fmt: skip
    assert predicted(odd, quantization="q4f16_1", kv_dtype="int8") == PredictedQuality(99, None)


def test_what_no_measurement_speaks_of_is_not_guessed() -> None:
    assert predicted([], quantization="auto") is None
    some = [perplexity(20), perplexity(21, kv_dtype="int8"), perplexity(30, "q4f16_1", "int4")]
    assert predicted(some, quantization="q8f16_1") is None
    assert predicted(some, quantization="q4f16_1", kv_dtype="int8") is None  # nothing links the two formats
    assert predicted(some, subject="llamacpp") is None


def test_between_two_windows_lies_a_line_in_the_logarithms() -> None:
    streams = [
        perplexity(40.0, window=256, sinks=4),
        perplexity(32.0, window=1024, sinks=4),
        perplexity(50, window=256),
    ]
    found = predicted(streams, sliding_window_size=512, attention_sink_size=4)
    assert found is not None and found.perplexity == pytest.approx(math.sqrt(40.0 * 32.0))
    for window, sinks in ((128, 4), (2048, 4), (512, 0), (-1, 0)):
        assert predicted(streams, sliding_window_size=window, attention_sink_size=sinks) is None


def test_other_texts_and_protocols_do_not_compare() -> None:
    records = [perplexity(20), perplexity(21, kv_dtype="int8"), perplexity(10, "q8f16_1", protocol="stride")]
    assert predicted(records, quantization="q8f16_1") is None
    assert predicted([*records, perplexity(math.nan, "q4f16_1", status="failed")], quantization="q4f16_1") is None


def test_intervals_hold_what_does_not_quite_add_up() -> None:
    generator, held = np.random.default_rng(0), []
    for _ in range(30):
        every = {
            (name, kv): value * factor * math.exp(generator.normal(0, 0.01))
            for (name, value), (kv, factor) in product(FORMATS.items(), PRECISIONS.items())
        }
        missing = [cell for number, cell in enumerate(every) if number % 5 == 4]
        known = [perplexity(value, *cell) for cell, value in every.items() if cell not in missing]
        for name, kv in missing:
            found = predicted(known, quantization=name, kv_dtype=kv)
            assert found is not None and found.interval is not None
            held.append(found.interval[0] <= every[name, kv] <= found.interval[1])
    assert 0.85 <= np.mean(held) <= 0.99


def test_devices_whose_activations_differ_have_qualities_of_their_own() -> None:
    formats = [cell(DesignPoint.from_flat({"device": device}).flat())[0] for device in ("cpu", "cuda:0", "vulkan:1")]
    assert len(set(formats)) == 3
    assert cell(DesignPoint.from_flat({"device": "vulkan:0"}).flat())[0] == formats[2]
