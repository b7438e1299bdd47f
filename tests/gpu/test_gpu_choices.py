"""A GPU's own choices in an engine: the kernels by g++, the model by the processor; all answers are the CPU's."""

from typing import Any

import numpy as np
import pytest
from emulated import EmulatedKernels, needs_emulation

from built_tiny import BuildTiny, BuiltTiny
from kvscape.compiler.kernels.cuda import choices
from kvscape.config import EngineConfig
from kvscape.engine import Engine
from kvscape.engine.devices.cpu import CpuDevice
from kvscape.engine.devices.cuda import CudaDevice
from kvscape.engine.devices.cuda.choices import CudaChoices
from kvscape.engine.devices.runtime import tvm
from mixed_requests import Told, assert_same, assert_worth_comparing, mixed_requests, told
from pretended_gpu import pretend_gpu
from replaying_device import ReplayingDevice

pytestmark = needs_emulation
Answers = dict[tuple[str, int], Told]


@pytest.fixture(scope="module")
def built(built_tiny: BuildTiny) -> BuiltTiny:
    return built_tiny("auto")


@pytest.fixture(scope="module")
def wanted(built: BuiltTiny) -> Answers:
    device = CpuDevice(built.library, built.packed_weights, 2)
    return told(Engine(device, EngineConfig(256, max_batch_size=16)), mixed_requests(device.model.vocab_size))


@pytest.fixture(scope="module")
def kernels(built: BuiltTiny, tmp_path_factory: pytest.TempPathFactory) -> EmulatedKernels:
    vocab = built.artifact.manifest.model.vocab_size
    functions = {
        "greedy": choices.greedy_function(vocab),
        "sample": choices.sample_function(vocab),
        "edit": choices.edit_function(vocab),
        "token_logprobs": choices.token_logprobs_function(vocab),
    }
    return EmulatedKernels(functions.items(), tmp_path_factory.mktemp("emulated"))


@pytest.fixture
def device(built: BuiltTiny, kernels: EmulatedKernels, monkeypatch: pytest.MonkeyPatch) -> CudaDevice:
    """A pretended GPU that does not give its logits to the host."""
    pretend_gpu(monkeypatch)
    made = CudaDevice(built.library, built.packed_weights)
    made.__dict__["_choices"] = own_choices(made, kernels)
    monkeypatch.setattr(CudaDevice, "fetch", None)
    return made


def own_choices(device: CpuDevice | CudaDevice, kernels: EmulatedKernels) -> CudaChoices:
    names = ("greedy", "sample", "edit", "token_logprobs")
    functions: dict[str, Any] = {name: kernels.function(name) for name in names}
    functions["logprobs"] = device.__dict__["_vm"]["logprobs"]
    functions["sample"] = lambda logits, draws, y: kernels.function("sample")(logits, draws, y, rooms(int(y.shape[0])))
    return CudaChoices(functions, tvm.runtime.device("cpu", 0), device.model.vocab_size)


def rooms(draws: int) -> Any:
    """What the machine gives the kernel besides; it holds anything."""
    return tvm.runtime.tensor(np.full((draws, choices.ROOM_INTS), 0x7B7B7B7B, np.int32))


def test_the_answers_are_worth_comparing(wanted: Answers) -> None:
    assert_worth_comparing(wanted)


def test_a_mixed_batch_is_answered_as_by_the_cpu(
    device: CudaDevice, wanted: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has more rows than are edited at once."""
    monkeypatch.setattr("kvscape.engine.devices.cuda.choices.MOST_EDITED", 4)
    target = Engine(device, EngineConfig(256, max_batch_size=16))
    assert_same(told(target, mixed_requests(device.model.vocab_size)), wanted)


def test_small_batches_with_drafts_are_too(device: CudaDevice, wanted: Answers) -> None:
    target = Engine(device, EngineConfig(256, max_batch_size=3, prefill_chunk_size=16, prompt_lookup_tokens=2))
    assert_same(told(target, mixed_requests(device.model.vocab_size)), wanted)
    assert target.metrics.accepted_tokens > 0


def test_logits_of_recorded_steps_are_chosen_from_as_well(
    built: BuiltTiny, kernels: EmulatedKernels, wanted: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = ReplayingDevice(built.library, built.packed_weights, 2)
    for name in ("greedy", "sample", "token_logprobs"):
        monkeypatch.setattr(device, name, getattr(own_choices(device, kernels), name))
    monkeypatch.setattr(device, "fetch", None)
    target = Engine(device, EngineConfig(256, max_batch_size=5))
    assert_same(told(target, mixed_requests(device.model.vocab_size)), wanted)
    assert sum(each.launches for each in device.replays) > 5
