"""A made-up machine whose kernels have speeds of their own: the predictor must find them from few points."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from made_quality import perplexity

from kvscape.analysis.device import Device
from kvscape.analysis.memory import Workspace, predict_memory
from kvscape.analysis.point_times import point_times
from kvscape.analysis.schedule import SUMS, TIMES
from kvscape.analysis.step_parts import PARTS
from kvscape.config import BuildConfig, DesignPoint, EngineConfig, ModelConfig, Workload
from kvscape.results import Record
from kvscape.study.model_facts import ModelFacts
from kvscape.study.predictor import Predictor

MODEL = ModelConfig(
    model_type="llama", hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
    num_key_value_heads=3, head_dim=64, vocab_size=49152, rms_norm_eps=1e-5, rope_theta=1e5,
    max_position_embeddings=8192, tie_word_embeddings=True,
)  # fmt: skip
DEVICE = Device("here", 2, 2e10, 4e11, 1e11, 3e-6, 1e-5)
GPU = Device("gpu", 1, 3e12, 6e14, 6e14, 2e-6)
WEIGHTS = {"auto": 84_000_000, "q4f16_1": 76_000_000, "q8f16_1": 143_000_000, "q0f16": 269_000_000}
WORKSPACES = {name: Workspace(100_000, 20_000, 100, 200_000) for name in ("f32", "f16", "int8", "int4")}
AXES: dict[str, list[Any]] = {
    "quantization": list(WEIGHTS),
    "kv_dtype": ["f32", "f16", "int8", "int4"],
    "context_window_size": [1024, 2048, 4096, 8192],
    "prefill_chunk_size": [64, 128, 256, 512],
    "max_batch_size": [1, 2, 4],
    "sliding_window_size": [-1, 256, 512],
}


def here(device: str) -> Device:
    return DEVICE if device == "cpu" else GPU


def facts(point: DesignPoint) -> ModelFacts | None:
    weights = WEIGHTS.get(point.build.quantization)
    return ModelFacts(MODEL, weights, "key", "library", WORKSPACES) if weights else None


@cache
def space() -> list[DesignPoint]:
    chosen = (dict(zip(AXES, values, strict=True)) for values in itertools.product(*AXES.values()))
    return [DesignPoint.from_flat({**one, "prompt_tokens": 200, "max_tokens": 40}) for one in chosen]


def truth(point: DesignPoint, generator: np.random.Generator | None = None) -> dict[str, float]:
    """Each part of a step takes a factor of its own, formats and precisions theirs on top."""
    known = facts(point)
    assert known is not None
    memory = predict_memory(MODEL, point.engine, known.weights_bytes, WORKSPACES)
    case = point_times(point, MODEL, memory, DEVICE)
    factors = np.array([1.5, 0.7, 0.4, 1.6, 1.3, 2.0, 1.8, 1.2])
    factors[PARTS.index("products")] *= {"auto": 1.0, "q4f16_1": 0.9, "q8f16_1": 1.1, "q0f16": 1.4}[
        point.build.quantization
    ]
    factors[PARTS.index("attention")] *= {"f32": 0.9, "f16": 1.0, "int8": 1.2, "int4": 1.6}[point.engine.kv_dtype]
    noise = 1.0 if generator is None else np.exp(generator.normal(0, 0.03, len(TIMES)))
    return {"total_bytes": memory.total_bytes, **case.metrics(case.parts @ factors * noise)}


def measured(points: Sequence[DesignPoint], seed: int = 0) -> list[Record]:
    generator = np.random.default_rng(seed)
    return [Record(point.flat(), truth(point, generator), {}, {}, {"machine": "here"}) for point in points]


def drawn(count: int, seed: int = 1) -> list[DesignPoint]:
    return [space()[number] for number in np.random.default_rng(seed).choice(len(space()), count, replace=False)]


def errors(records: Sequence[Record], name: str) -> list[float]:
    return [abs(r.predicted[name] / truth(DesignPoint.from_flat(r.parameters))[name] - 1) for r in records]


def predictor(count: int = 24) -> Predictor:
    return Predictor.fit(measured(drawn(count)), [], here, facts)


def test_twenty_four_points_tell_the_speed_of_all_others() -> None:
    predicted = predictor().predict(space()[::4])
    for name in ("prefill_tokens_per_s", "decode_tokens_per_s", "ttft_s", "tpot_s", "e2e_s"):
        assert np.mean(errors(predicted, name)) < 0.04, name


def test_without_measurements_the_machines_limits_are_all_there_is() -> None:
    untrained = predictor(0).predict(drawn(50, 2))
    assert 0.05 < np.mean(errors(untrained, "decode_tokens_per_s")) < 0.7
    for record in untrained:
        low, high = record.predicted_intervals["decode_tokens_per_s"]
        assert low < truth(DesignPoint.from_flat(record.parameters))["decode_tokens_per_s"] < high


def test_intervals_hold_what_is_measured_later() -> None:
    held = []
    for seed in range(6):
        fitted = Predictor.fit(measured(drawn(24, seed), seed), [], here, facts)
        new = drawn(60, 100 + seed)
        for record, real in zip(fitted.predict(new), measured(new, 50 + seed), strict=True):
            for name in ("prefill_tokens_per_s", "decode_tokens_per_s"):
                low, high = record.predicted_intervals[name]
                held.append(low <= real.metrics[name] <= high)
    assert 0.90 <= np.mean(held) <= 0.999


def test_two_thousand_points_are_predicted_in_their_order() -> None:
    many = (space() * 2)[:2000]
    assert [record.parameters for record in predictor().predict(many)] == [point.flat() for point in many]


def test_a_prediction_is_no_measurement() -> None:
    (record,) = predictor().predict(drawn(1))
    assert (record.status, record.metrics, record.samples) == ("predicted", {}, {})
    assert record.parameters == drawn(1)[0].flat()
    assert set(record.predicted_intervals) <= set(record.predicted)


def test_memory_is_the_arithmetic_the_engine_allocates_by() -> None:
    for record, point in zip(predictor().predict(drawn(9)), drawn(9), strict=True):
        memory = predict_memory(MODEL, point.engine, WEIGHTS[point.build.quantization], WORKSPACES)
        assert record.predicted["total_bytes"] == memory.total_bytes
        assert "total_bytes" not in record.predicted_intervals


def test_no_speed_is_predicted_of_requests_that_come_over_time() -> None:
    base = drawn(1)[0]
    spread = replace(base, workload=replace(base.workload, request_rate=2.0, num_requests=8))
    together, record = predictor().predict([base, spread])
    assert record.status == "predicted" and record.predicted_intervals == {}
    assert record.predicted == {name: value for name, value in together.predicted.items() if name.endswith("bytes")} | {
        "kv_bytes_per_token": together.predicted["kv_bytes_per_token"]
    }
    assert "come over time" in record.reason


def test_nothing_is_learned_from_requests_that_come_over_time() -> None:
    records = measured(drawn(4))
    odd = replace(records[0], parameters={**records[0].parameters, "request_rate": 2.0})
    fitted = Predictor.fit([*records, odd], [], here, facts)
    assert fitted.measured == records
    assert fitted.with_predictions([odd]) == [odd]


def test_what_cannot_run_is_said_and_not_predicted() -> None:
    points = [DesignPoint.from_flat({"context_window_size": context}) for context in (9000, 128, 4096)]
    long, short, large = predictor().predict(points, available_bytes=lambda device: 10_000_000)
    assert {long.status, short.status, large.status} == {"infeasible"}
    assert "made for 8192 tokens" in long.reason
    assert "exceed context_window_size 128" in short.reason
    assert "MiB are free" in large.reason


def test_a_build_that_failed_is_not_predicted() -> None:
    point = replace(drawn(1)[0], build=replace(drawn(1)[0].build, quantization="q3f16_1"))
    assert [record.status for record in predictor().predict([point])] == ["infeasible"]


def test_a_measured_point_is_predicted_from_all_others() -> None:
    records = measured(drawn(24))
    wrong = replace(records[5], metrics={name: 5 * value for name, value in records[5].metrics.items()})
    records[5] = wrong
    failed = replace(records[6], status="failed", metrics={})
    records[6] = failed
    beside = Predictor.fit(records, [], here, facts).with_predictions(records)
    assert beside[6] is failed
    assert beside[5].metrics == wrong.metrics
    real = truth(DesignPoint.from_flat(wrong.parameters))["decode_tokens_per_s"]
    assert beside[5].predicted["decode_tokens_per_s"] == pytest.approx(real, rel=0.15)
    low, high = beside[5].predicted_intervals["decode_tokens_per_s"]
    assert low < real < high < wrong.metrics["decode_tokens_per_s"]


def test_a_measured_quality_is_predicted_from_all_others_too() -> None:
    cells = ("auto", "f16"), ("auto", "int8"), ("q8f16_1", "f16"), ("q8f16_1", "int8")
    points = [DesignPoint.from_flat({"quantization": name, "kv_dtype": kv}) for name, kv in cells]
    scores = [perplexity(20.0 + number, *own) for number, own in enumerate(cells)]
    records = measured(points)
    beside = Predictor.fit(records, scores, here, facts).with_predictions(records)
    assert beside[3].predicted["perplexity"] == pytest.approx(21.0 * 22.0 / 20.0)
    assert beside[3].predicted_intervals["perplexity"][0] < 23.1
    alone = Predictor.fit(records, scores[:2], here, facts).with_predictions(records)
    assert "perplexity" not in alone[0].predicted  # nothing else tells of it


def test_other_machines_teach_nothing_about_this_one() -> None:
    slow = [
        replace(r, metrics={name: value / 3 for name, value in r.metrics.items()}, environment={"machine": "there"})
        for r in measured(drawn(24, 3))
    ]
    fitted = Predictor.fit([*measured(drawn(24)), *slow], [], here, facts)
    assert len(fitted.measured) == 24
    assert np.mean(errors(fitted.predict(space()[::20]), "decode_tokens_per_s")) < 0.04


def test_every_subject_has_a_speed_of_its_own() -> None:
    records = measured(drawn(24))
    peers = [replace(r, parameters={**r.parameters, "subject": "llamacpp", "quantization": "auto"},
                     metrics={name: value / 2 for name, value in r.metrics.items()}) for r in records]  # fmt: skip
    fitted = Predictor.fit([*records, *peers], [], here, facts)
    assert np.mean(errors(fitted.predict(space()[::20]), "decode_tokens_per_s")) < 0.04


def test_quality_stands_beside_speed_where_it_is_known() -> None:
    cells = ("auto", "f16"), ("auto", "int8"), ("q8f16_1", "f16"), ("q8f16_1", "int8"), ("q4f16_1", "int8")
    points = [DesignPoint.from_flat({"quantization": name, "kv_dtype": kv}) for name, kv in cells]
    scores = [perplexity(20.0, "auto"), perplexity(21.0, "auto", "int8"), perplexity(19.0, "q8f16_1")]
    found = Predictor.fit(measured(drawn(24)), scores, here, facts).predict(points)
    assert [record.predicted.get("perplexity") for record in found] == [20.0, 21.0, 19.0, pytest.approx(19.95), None]
    assert [("perplexity" in record.predicted_intervals) for record in found] == [False, False, False, True, False]


def on_gpu(records: Sequence[Record], factor: float) -> list[Record]:
    """The same points on a GPU, so many times as fast."""
    speeds = ("prefill_tokens_per_s", "decode_tokens_per_s")
    return [
        replace(
            record,
            parameters={**record.parameters, "device": "cuda:0"},
            metrics={**record.metrics, **{name: factor * record.metrics[name] for name in speeds}},
            environment={"machine": "gpu"},
        )
        for record in records
    ]


def test_a_gpu_has_limits_and_a_model_of_its_own() -> None:
    records = measured(drawn(24))
    both = Predictor.fit([*records, *on_gpu(records, 30.0)], [], here, facts)
    alone = Predictor.fit(records, [], here, facts)
    points = drawn(8, seed=9)
    assert both.predict(points) == alone.predict(points)
    there = [DesignPoint.from_flat({**point.flat(), "device": "cuda:0"}) for point in points]
    ratios = [
        gpu.predicted["decode_tokens_per_s"] / cpu.predicted["decode_tokens_per_s"]
        for gpu, cpu in zip(both.predict(there), both.predict(points), strict=True)
    ]
    assert 20 < np.median(ratios) < 45


@pytest.mark.parametrize("device", ["cuda:0", "vulkan:0"])
def test_no_thread_of_the_host_makes_a_gpu_faster(device: str) -> None:
    (point,) = drawn(1)
    there = [DesignPoint.from_flat({**point.flat(), "device": device, "threads": threads}) for threads in (1, 64)]
    one, many = Predictor.fit([], [], here, facts).predict(there)
    assert one.predicted == pytest.approx(many.predicted)


@pytest.mark.parametrize(("device", "passes"), [("cuda:0", 1), ("vulkan:0", 2)])
def test_a_step_of_few_tokens_reads_a_gpus_weights_as_often_as_its_kernels_do(device: str, passes: int) -> None:
    point = DesignPoint(BuildConfig(device=device), EngineConfig(2048, 2048, 12), Workload(100, 8))
    engine = point.engine
    memory = predict_memory(MODEL, engine, 1 << 26, dict.fromkeys([engine.kv_dtype], Workspace(0, 0, 0, 0)))
    plan = point_times(point, MODEL, memory, GPU).plan
    steps, found = (plan.sums[TIMES.index("decode_s")][SUMS.index(name)] for name in ("steps", "passes"))
    assert found == passes * steps > 0
