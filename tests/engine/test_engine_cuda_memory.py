"""What is allocated of a GPU's memory, here on the host: the plan has it, and what does not fit is one line."""

import gc
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from weakref import ref

import pytest

from built_tiny import BuildTiny
from kvscape.analysis.memory import Workspace, predict_memory
from kvscape.artifact import LibraryMetadata
from kvscape.artifact.tensor_file import map_tensors
from kvscape.config import GPU_KV_DTYPES, EngineConfig, Window
from kvscape.engine import Engine
from kvscape.engine.devices.arguments import arranged, step_blocks, step_sizes
from kvscape.engine.devices.cpu import CpuDevice
from kvscape.engine.devices.cuda import CudaDevice, runtime, tensors
from kvscape.engine.devices.cuda.edits import CudaEdits
from kvscape.engine.devices.cuda.runtime import fitting
from kvscape.engine.devices.cuda.tensors import CudaDraws, CudaInts, CudaResult
from kvscape.engine.devices.device import Draw, StepInput
from kvscape.engine.devices.pools import TensorPools
from kvscape.engine.devices.runtime import tvm
from kvscape.engine.devices.tensors import IntTensors
from kvscape.engine.devices.tiles import Tiling
from kvscape.errors import CapacityError
from pretended_gpu import pretend_gpu

WORKSPACE = Workspace(0, 1, 1, 1, 1, on_gpu=True)


@pytest.fixture
def device(built_tiny: BuildTiny) -> CudaDevice:
    """One without weights, whose memory is the host's."""
    built = built_tiny("auto")
    metadata = CpuDevice(built.library, built.packed_weights, 2).metadata
    device = CudaDevice.__new__(CudaDevice)
    device._device, device._index = tvm.runtime.device("cpu", 0), 0
    device.metadata = replace(metadata, workspaces=dict.fromkeys(GPU_KV_DTYPES, WORKSPACE), page_size_multiple=8)
    return device


@pytest.mark.parametrize("kv_dtype", [*GPU_KV_DTYPES, "k=int4,v=fp8"])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_plan_has_every_byte_of_the_cache(device: CudaDevice, kv_dtype: str, batch: int) -> None:
    device.metadata = replace(device.metadata, workspaces={kv_dtype: WORKSPACE})
    config = EngineConfig(context_window_size=100, max_batch_size=batch, kv_dtype=kv_dtype)
    engine = Engine(device, config)
    memory = predict_memory(device.model, engine.config, 0, device.metadata.workspaces)
    assert engine.pools.nbytes == memory.kv_cache_bytes > 0


def test_a_steps_sizes_are_those_of_its_numbers() -> None:
    step = StepInput(
        token_ids=[5, 6, 7, 8], positions=[300, 0, 1, 2], query_starts=[0, 1, 4], kv_lengths=[301, 3], slots=[[0] * 4],
        page_tables=[[[0], [1]]], windows=[Window()], logit_rows=[0, 3, 1], tails=[0, 1],
    )  # fmt: skip
    blocks = step_blocks(step, Tiling(2, 64, 1, 1000))
    assert step_sizes(IntTensors(lambda tensors: arranged(tensors, 1)).fill(blocks)) == (4, 2, 3, 1 + 2)


def test_memory_that_does_not_suffice_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "free_gpu_bytes", lambda index: 3 << 20)
    line = "^out of memory on cuda:1 for the weights: 3 MiB are free; use a smaller batch, context or quantization"
    with pytest.raises(CapacityError, match=line), fitting(1, "the weights"):
        raise RuntimeError("CUDA: out of memory")
    with pytest.raises(CapacityError, match=line), fitting(1, "the weights"):
        raise RuntimeError("CUDAError: cuModuleLoadData(...) failed with error: CUDA_ERROR_OUT_OF_MEMORY")
    with pytest.raises(RuntimeError, match="illegal memory access"), fitting(1, "the weights"):
        raise RuntimeError("CUDA: an illegal memory access was encountered")


@pytest.mark.parametrize("make", [CudaInts, CudaDraws, CudaResult])
def test_numbers_that_do_not_fit_are_one_line_and_fit_later(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError("CUDA: out of memory")

    numbers, draw = make(tvm.runtime.device("cpu", 0)), Draw(0, 0, 1.0, 1.0, 0.0, 0.5)
    ask = {CudaInts: lambda: numbers.fill([((2,), (1, 2))]), CudaDraws: lambda: numbers.fill([draw])}
    with monkeypatch.context() as patch:
        patch.setattr("kvscape.engine.devices.cuda.tensors.empty", full)
        for _ in range(2):
            with pytest.raises(CapacityError, match=r"^out of memory on cuda:0 for a step's "):
                ask.get(make, lambda: numbers.of(3))()
    ask.get(make, lambda: numbers.of(3))()


def test_edited_logits_that_do_not_fit_are_one_line_and_fit_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(shape: tuple[int, ...], *_: Any) -> Any:
        if 32 in shape:
            raise RuntimeError("CUDA: out of memory")
        return tensors.empty(shape, *_)

    edits, draw = CudaEdits(tvm.runtime.device("cpu", 0), 32), Draw(0, 0, 1.0, 1.0, 0.0, 0.5)
    asked: list[Any] = []
    edits.of(lambda *arguments: asked.append(arguments), None, [draw])
    with monkeypatch.context() as patch:
        patch.setattr("kvscape.engine.devices.cuda.edits.empty", full)
        for _ in range(2):
            with pytest.raises(CapacityError, match=r"^out of memory on cuda:0 for a step's edited logits"):
                edits.of(asked.append, None, [draw] * 2)
    rows = edits.of(lambda *arguments: asked.append(arguments), None, [draw])
    assert tuple(rows.shape) == (1, 32) and [tuple(each.shape) for each in asked[-1][1:]] == [
        (1, 4),
        (1, 4),
        (1, 1),
        (1, 32),
    ]


def test_a_model_that_was_closed_gives_its_memory_to_the_next(
    built_tiny: BuildTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpu(monkeypatch)
    built = built_tiny("auto")
    first = CudaDevice(built.library, built.packed_weights)
    gone = ref(first)
    first._knows = first  # type: ignore[attr-defined]  # as its graphs and its scratch memory do
    monkeypatch.setattr(
        "kvscape.engine.devices.cuda.device.free_gpu_bytes", lambda index: 2 << 30 if gone() else 3 << 30
    )
    gc.disable()
    del first
    assert CudaDevice(built.library, built.packed_weights).available_bytes == 3 << 30
    gc.enable()


def test_weights_that_do_not_fit_are_not_read(built_tiny: BuildTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch)
    monkeypatch.setattr("kvscape.engine.devices.cuda.device.free_gpu_bytes", lambda index: 1000)
    monkeypatch.setattr("kvscape.engine.devices.cuda.device.tensor_list", lambda arrays: pytest.fail("they are read"))
    built = built_tiny("auto")
    with pytest.raises(CapacityError, match=r"^out of memory on cuda:0 for code and weights: "):
        CudaDevice(built.library, built.packed_weights)


def test_a_plan_is_judged_before_the_gpu_is_asked_for_memory(
    built_tiny: BuildTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(metadata: LibraryMetadata, weights_bytes: int, available_bytes: int) -> None:
        least = sum(array.nbytes for array in map_tensors(built.packed_weights).values())
        assert metadata.model.vocab_size == 320 and weights_bytes == least and available_bytes == 5 << 30
        raise CapacityError("too large")

    pretend_gpu(monkeypatch)
    monkeypatch.setattr("kvscape.engine.devices.cuda.device.free_gpu_bytes", lambda index: 5 << 30)
    for name in ("tensor_list", "add_device_code"):
        monkeypatch.setattr(f"kvscape.engine.devices.cuda.device.{name}", lambda *_: pytest.fail("it is asked"))
    built = built_tiny("auto")
    with pytest.raises(CapacityError, match="too large"):
        CudaDevice(built.library, built.packed_weights, check=check)


def test_a_step_that_does_not_fit_is_one_line(device: CudaDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError("CUDAError: cuModuleLoadData failed with error: CUDA_ERROR_OUT_OF_MEMORY")

    monkeypatch.setattr("kvscape.engine.devices.cuda.device.step_sizes", lambda arguments: (1, 1, 1, 1))
    device._scratch, device._parameters = SimpleNamespace(of=lambda *_: None), ()  # type: ignore[assignment]
    device._functions = {"forward": full}
    with pytest.raises(CapacityError, match=r"^out of memory on cuda:0 for a step: "):
        device._call(TensorPools("forward", (), (), None), ())
