from dataclasses import replace

import pytest
from fake_kvscape import FACTS

from kvscape.config import BuildConfig, DesignPoint, EndpointConfig, EngineConfig, Workload
from kvscape.quality import Settings, Text
from kvscape.study.key import _without_model, quality_key, speed_key
from kvscape.study.model_facts import ModelFacts
from kvscape.study.space import Quality

POINT = DesignPoint()
MODEL = ModelFacts.from_json(FACTS)
QUALITY = Quality(Settings("windows", 512, 16), Text("text", "words"))


@pytest.mark.parametrize(
    "other",
    [
        replace(POINT, threads=1),
        replace(POINT, build=BuildConfig(quantization="q4f16_1")),
        replace(POINT, build=BuildConfig(embedding_quantization="q8f16_1")),
        replace(POINT, build=BuildConfig(activation="float32")),
        replace(POINT, engine=EngineConfig(context_window_size=1024)),
        replace(POINT, engine=EngineConfig(max_batch_size=2)),
        replace(POINT, engine=EngineConfig(kv_dtype="int8")),
        replace(POINT, engine=EngineConfig(prefix_cache=False)),
        replace(POINT, engine=EngineConfig(mixed_chunk_size=4)),
        replace(POINT, engine=EngineConfig(prompt_lookup_tokens=4)),
        replace(POINT, workload=Workload(seed=1)),
        replace(POINT, workload=Workload(precision=0.03)),
        replace(POINT, workload=Workload(num_requests=8)),
        replace(POINT, workload=Workload(request_rate=2.0)),
        replace(POINT, workload=Workload(concurrency=2)),
        replace(POINT, workload=Workload(lengths="sharegpt")),
        replace(POINT, server=EndpointConfig(endpoint="http://here")),
        replace(POINT, server=EndpointConfig(endpoint_route="completions")),
    ],
)
def test_whatever_changes_speed_changes_its_key(other: DesignPoint) -> None:
    assert speed_key(other, MODEL, "here") != speed_key(POINT, MODEL, "here")


def test_a_speed_belongs_to_a_machine_and_to_the_weights_and_kernels_that_ran() -> None:
    key = speed_key(POINT, MODEL, "here")
    assert key == speed_key(POINT, MODEL, "here")
    assert key != speed_key(POINT, MODEL, "there")
    assert key != speed_key(POINT, replace(MODEL, weights_key="other"), "here")
    assert key != speed_key(POINT, replace(MODEL, library_key="other"), "here")


def test_what_older_stores_did_not_know_leaves_their_keys_as_they_are_where_it_is_not_asked_for() -> None:
    work = ("precision", "num_requests", "request_rate", "concurrency", "duration_s", "lengths", "slo")
    newer = (
        "model",
        "calibrate",
        "mixed_chunk_size",
        "prompt_lookup_tokens",
        *work,
        *(name for name in POINT.flat() if name.startswith("endpoint")),
    )
    parameters = {name: value for name, value in POINT.flat().items() if name not in newer}
    assert _without_model(POINT) == parameters


def test_the_same_weights_under_another_name_are_the_same() -> None:
    renamed = replace(POINT, build=BuildConfig(model="/elsewhere/model.gguf"))
    assert speed_key(renamed, MODEL, "here") == speed_key(POINT, MODEL, "here")


def test_failed_builds_are_told_apart_by_their_name() -> None:
    renamed = replace(POINT, build=BuildConfig(model="other"))
    assert speed_key(renamed, None, "here") != speed_key(POINT, None, "here")


@pytest.mark.parametrize(
    "other",
    [
        replace(POINT, threads=1),
        replace(POINT, engine=EngineConfig(context_window_size=4096, max_batch_size=4, prefill_chunk_size=128)),
        replace(POINT, engine=EngineConfig(prefix_cache=False)),
        replace(POINT, workload=Workload(num_runs=1)),
        replace(POINT, workload=Workload(num_requests=8, request_rate=2.0)),
    ],
)
def test_one_perplexity_serves_many_speeds(other: DesignPoint) -> None:
    assert quality_key(other, MODEL, QUALITY) == quality_key(POINT, MODEL, QUALITY)


@pytest.mark.parametrize(
    ("point", "quality"),
    [
        (replace(POINT, engine=EngineConfig(kv_dtype="int8")), QUALITY),
        (replace(POINT, build=BuildConfig(quantization="q4f16_1")), QUALITY),
        (replace(POINT, build=BuildConfig(activation="float32")), QUALITY),
        (POINT, Quality(Settings("llamacpp", 512, 16), QUALITY.text)),
        (POINT, Quality(Settings("windows", 256, 16), QUALITY.text)),
        (POINT, Quality(Settings("stride", 512, 16, stride=64), QUALITY.text)),
        (POINT, Quality(Settings("stride", 512, 16, stride=128), QUALITY.text)),
        (POINT, Quality(Settings("windows", 512, 17), QUALITY.text)),
        (POINT, Quality(QUALITY.settings, Text("text", "other words"))),
        (POINT, replace(QUALITY, reference="q0f32")),
    ],
)
def test_whatever_changes_quality_changes_its_key(point: DesignPoint, quality: Quality) -> None:
    assert quality_key(point, MODEL, quality) != quality_key(POINT, MODEL, QUALITY)


def test_a_texts_name_does_not_matter() -> None:
    renamed = Quality(QUALITY.settings, Text("other", "words"))
    assert quality_key(POINT, MODEL, renamed) == quality_key(POINT, MODEL, QUALITY)


def on(device: str, **build: str) -> DesignPoint:
    return replace(POINT, build=BuildConfig(device=device, **build))


def test_equal_gpus_share_keys_and_what_a_processor_is_asked_for_does_not_count_there() -> None:
    gpu, other, processor = on("cuda:0"), on("cuda:1", activation="float32"), on("cpu", activation="float32")
    speeds = [speed_key(point, MODEL, "here") for point in (gpu, other, POINT, processor)]
    qualities = [quality_key(point, MODEL, QUALITY) for point in (gpu, other, POINT, processor)]
    for keys in (speeds, qualities):
        assert keys[0] == keys[1] and len(set(keys)) == 3


def test_the_adapters_of_a_backend_are_told_apart_by_the_machine() -> None:
    first, second, cuda = (speed_key(on(device), MODEL, "here") for device in ("vulkan:0", "webgpu:1", "cuda:0"))
    assert first == second != cuda


def test_another_subject_has_devices_of_its_own() -> None:
    first, second = (replace(on(device), subject="transformers") for device in ("cuda:0", "cuda:1"))
    assert speed_key(first, MODEL, "here") != speed_key(second, MODEL, "here")
