"""The equality tests' own test: each scenario, run on a device with one thing wrong, gives other tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import (
    MutatedDevice,
    Mutation,
    group_off_by_one,
    head_zeroed,
    nothing,
    one_key_too_few,
    one_key_too_many,
    page_of_a_neighbour,
    page_swapped,
    scale_off_by_one,
    values_zeroed,
)
from tvm.relax.frontend import nn

from built_tiny import BuildTiny, BuiltTiny, build_tiny
from kvscape.config import EngineConfig
from kvscape.engine import Engine, Request, SamplingParams
from kvscape.engine.devices.cpu import CpuDevice
from kvscape.engine.devices.device import Device
from kvscape.models.decoder import Decoder
from kvscape.models.ops import call, placeholder

KV_DTYPE = "int8"
PROMPTS = [tuple(np.random.default_rng(7 + n).integers(3, 300, n).tolist()) for n in (21, 40, 33, 18)]
PARAMS = SamplingParams(max_tokens=24, ignore_eos=True)


@dataclass(frozen=True)
class Scenario:
    """``counts`` is the engine's metric that shows that it did what the scenario is for."""

    knobs: Mapping[str, int | bool] = field(default_factory=dict)
    rounds: int = 1
    cancels: bool = False
    choices: int = 1
    counts: str = "steps"


SCENARIOS = {
    "alone": Scenario(),
    "batched": Scenario({"max_batch_size": 4}),
    "chunks of 5": Scenario({"prefill_chunk_size": 5}),
    "chunks of 16, batched": Scenario({"prefill_chunk_size": 16, "max_batch_size": 4}),
    "pages of 32": Scenario({"page_size": 32, "max_batch_size": 2}),
    "prefix cache": Scenario({"max_total_sequence_length": 512}, rounds=2, counts="prefix_cache_hits"),
    "preemption": Scenario({"max_batch_size": 4, "max_total_sequence_length": 96}, counts="preemptions"),
    "mixed chunks of 3": Scenario({"mixed_chunk_size": 3, "max_batch_size": 4}),
    "pages of 8": Scenario({"page_size": 8, "prefill_chunk_size": 16}),
    "fork": Scenario({"max_batch_size": 3}, choices=3),
    "drafts": Scenario({"prompt_lookup_tokens": 4, "max_batch_size": 2, "page_size": 8}, counts="accepted_tokens"),
    "cancelled neighbour": Scenario({"max_batch_size": 2, "prefill_chunk_size": 16}, cancels=True),
}
MUTATIONS: tuple[Mutation, ...] = (
    page_swapped,
    page_of_a_neighbour,
    head_zeroed,
    values_zeroed,
    scale_off_by_one,
    one_key_too_few,
    one_key_too_many,
)

everywhere = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())


@pytest.fixture(scope="module")
def built(built_tiny: BuildTiny) -> BuiltTiny:
    return built_tiny("auto")


@cache
def true_device(built: BuiltTiny) -> CpuDevice:
    return CpuDevice(built.library, built.packed_weights, threads=2)


def answers(device: Device, scenario: Scenario, kv_dtype: str = KV_DTYPE) -> list[list[int]]:
    """Tokens of all prompts, in the last round."""
    config = EngineConfig(context_window_size=128, kv_dtype=kv_dtype, **scenario.knobs)  # type: ignore[arg-type]
    engine = Engine(device, config)
    for _ in range(scenario.rounds):
        if scenario.cancels:
            leave_half_way(engine)
        got = one_round(engine, scenario.choices)
    assert getattr(engine.metrics, scenario.counts) > 0
    return got


def one_round(engine: Engine, choices: int) -> list[list[int]]:
    """Tokens of each prompt's last choice."""
    got: list[list[int]] = [[] for _ in PROMPTS]
    for index, prompt in enumerate(PROMPTS):
        engine.add(Request(str(index), prompt, replace(PARAMS, n=choices)))
    while engine.has_work:
        for output in engine.step():
            if output.index == choices - 1:
                got[int(output.request_id)] += output.token_ids
    return got


def leave_half_way(engine: Engine) -> None:
    engine.add(Request("leaves", PROMPTS[1], PARAMS))
    engine.step()
    engine.cancel("leaves")


@cache
def expected(built: BuiltTiny, kv_dtype: str = KV_DTYPE) -> list[list[int]]:
    return answers(true_device(built), Scenario({"prefix_cache": False}), kv_dtype)


@everywhere
def test_without_a_mutation_the_tokens_are_the_same(built: BuiltTiny, scenario: Scenario) -> None:
    assert answers(MutatedDevice(true_device(built), nothing), scenario) == expected(built)


@everywhere
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_mutation_changes_the_tokens(built: BuiltTiny, mutation: Mutation, scenario: Scenario) -> None:
    assert answers(MutatedDevice(true_device(built), mutation), scenario) != expected(built)


@everywhere
@pytest.mark.parametrize("mutation", [nothing, group_off_by_one, head_zeroed], ids=lambda mutation: mutation.__name__)
def test_keys_that_are_rounded_in_groups_are_watched_too(
    built: BuiltTiny, mutation: Mutation, scenario: Scenario
) -> None:
    got = answers(MutatedDevice(true_device(built), mutation), scenario, "int4")
    assert (got == expected(built, "int4")) == (mutation is nothing)


def test_a_model_that_does_not_know_positions_gives_other_tokens(
    built: BuiltTiny, tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights, compiled with rotations by an angle of zero, at one KV precision."""
    turn_by_nothing(monkeypatch)
    still = build_tiny(tiny_gguf, tmp_path, "auto", kv_dtypes=(KV_DTYPE,))
    device = CpuDevice(still.library, still.packed_weights, threads=2)
    for scenario in SCENARIOS.values():
        assert answers(device, scenario) != expected(built)


def turn_by_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def still(model: Decoder, turned: Any, positions: Any, step: Any) -> Any:
        dim = model.config.head_dim
        angles = nn.Tensor.from_const(np.zeros(dim // 2, np.float32))
        return call("rope_table", [positions, angles, 1.0], placeholder([positions.shape[0], dim]))

    monkeypatch.setattr(Decoder, "_rope", still)
