"""A profile of the tiny model: counts are exact, times are only there."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kvscape import LLM
from kvscape.analysis.device import Device
from kvscape.bench.profile import check_profile, profile
from kvscape.bench.replay import Call, Recorder, replay
from kvscape.config import DesignPoint, EngineConfig, Workload
from kvscape.errors import CapacityError
from kvscape.report.profile import profile_figure
from kvscape.report.step_table import HOST, step_table
from kvscape.results.profile import KernelTime, Profile, StepProfile

LAYERS, VOCAB, HIDDEN, PROMPT, BATCH = 2, 320, 64, 12, 2
POINT = DesignPoint(
    engine=EngineConfig(context_window_size=64, max_batch_size=BATCH, prefix_cache=False),
    workload=Workload(prompt_tokens=PROMPT, num_runs=2),
    threads=1,
)


@pytest.fixture(scope="module")
def llm(open_llm: Callable[..., LLM], long_gguf: Path) -> Iterator[LLM]:
    with open_llm(long_gguf, context_window_size=64, max_batch_size=BATCH, prefix_cache=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def profiled(llm: LLM) -> Profile:
    return profile(llm, POINT)


def test_every_kernel_of_a_step_is_there(llm: LLM, profiled: Profile) -> None:
    others = ("_f32", "_int8", "_int4")
    expected = {name for name in llm.metadata.kernels if not name.startswith("logprobs") and not name.endswith(others)}
    assert [step.step for step in profiled.steps] == ["prefill", "decode"]
    for step in profiled.steps:
        assert {kernel.name for kernel in step.kernels} == expected


def test_8_bit_products_are_held_against_the_rate_of_integers(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Device("this", 1, 1e30, 1e3, 1e3, 1e-6)  # a thousand operations a second: hours for a step
    monkeypatch.setattr("kvscape.bench.profile.stored_device", lambda threads, device: known)
    result = profile(llm, POINT)
    assert result.environment["integer_operations_per_s"] == 1e3
    for kernel in result.steps[0].kernels:
        slow = kernel.roofline_s == pytest.approx(kernel.operations / 1e3)
        assert slow == kernel.name.startswith("int8_matmul")


def test_calls_are_counted(profiled: Profile) -> None:
    for step in profiled.steps:
        calls = {kernel.name: kernel.calls for kernel in step.kernels}
        assert calls["paged_attention_f16"] == LAYERS
        products = {name: number for name, number in calls.items() if "matmul" in name}
        assert sum(products.values()) == 4 * LAYERS + 1


def test_a_step_computes_its_tokens(profiled: Profile) -> None:
    prefill, decode = profiled.steps
    assert (prefill.tokens, decode.tokens) == (PROMPT, BATCH)
    for step, rows in ((prefill, 1), (decode, BATCH)):
        (head,) = (kernel for kernel in step.kernels if f"{VOCAB}x{HIDDEN}" in kernel.name and "matmul" in kernel.name)
        assert head.operations == 2 * VOCAB * HIDDEN * rows


def test_attention_sees_the_keys_of_the_step(profiled: Profile) -> None:
    def operations(step: StepProfile) -> float:
        return next(kernel.operations for kernel in step.kernels if "attention" in kernel.name)

    one = 4 * LAYERS * 4 * 16  # multiply-adds of keys and values, layers, heads, dimension
    prefill, decode = profiled.steps
    assert operations(prefill) == one * PROMPT * (PROMPT + 1) / 2
    # both prompts were read in one step; then one token to warm up, and the step that is recorded
    assert operations(decode) == one * BATCH * (PROMPT + 2)


def test_the_engine_is_idle_again(llm: LLM, profiled: Profile) -> None:
    assert not llm.engine.has_work
    assert len(llm.score([5, 6, 7])) == 2


def test_a_profile_is_drawn_and_printed(profiled: Profile, tmp_path: Path) -> None:
    assert profile_figure(profiled).write(tmp_path / "profile.svg").read_text(encoding="utf-8").startswith("<svg")
    for step in profiled.steps:
        assert list(step_table(step).columns[0].cells)[-2:] == [HOST, "step"]


def test_the_picture_says_what_computed(profiled: Profile) -> None:
    assert profile_figure(profiled).subtitle == "auto, KV f16, 1 thread"
    there = {**profiled.parameters, "device": "cuda:0"}, {**profiled.environment, "gpu": "NVIDIA H100"}
    assert profile_figure(Profile(*there, profiled.steps)).subtitle == "auto, KV f16, cuda:0, NVIDIA H100"


def test_what_kernels_do_not_explain_is_the_hosts() -> None:
    kernel = KernelTime("k", 2, 0.25, 100, 50, 0.125)
    step = StepProfile("decode", 1, 1.0, (kernel, kernel + kernel))
    assert (step.kernels_s, step.host_s, kernel.of_roofline) == (0.75, 0.25, 0.5)
    assert step.to_json()["kernels"][1] == {
        "name": "k", "calls": 4, "time_s": 0.5, "moved_bytes": 200, "operations": 100, "roofline_s": 0.25,
        "of_roofline": 0.5,
    }  # fmt: skip


def test_only_kernels_are_recorded_once_each() -> None:
    recorder = Recorder({"kernel"})
    for name, before in (("kernel", True), ("kernel", False), ("vm.builtin.make_shape", True)):
        assert recorder(print, name, before, None, 1, 2) == 0
    assert [(call.name, call.function, call.arguments) for call in recorder.calls] == [("kernel", print, (1, 2))]


def test_a_replay_runs_every_call_in_order() -> None:
    ran: list[int] = []
    calls = [Call("a", ran.append, (1,)), Call("b", ran.append, (2,))]
    assert len(replay(calls, lambda *_: None)) == 2
    assert ran == [1, 2]


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        (EngineConfig(prefill_chunk_size=8, context_window_size=64), "a step takes at most prefill_chunk_size 8"),
        (EngineConfig(context_window_size=16), "no room to decode"),
    ],
)
def test_a_prompt_that_is_no_single_step_is_refused(engine: EngineConfig, says: str) -> None:
    with pytest.raises(CapacityError, match=says):
        check_profile(replace(POINT, engine=engine))
