"""Any GPU with a driver for Vulkan, Metal or DX12: shaders run by ``wgpu``, launches recorded from TVM's machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np

from kvscape.analysis.adapters import Adapter
from kvscape.analysis.free_memory import available_memory_bytes
from kvscape.analysis.memory import page_bytes, tail_bytes
from kvscape.artifact.shaders import part_rows
from kvscape.artifact.tensor_file import map_tensors
from kvscape.config import ModelConfig
from kvscape.engine.devices.arguments import arranged, step_blocks
from kvscape.engine.devices.check import Check, unchecked
from kvscape.engine.devices.device import Asked, Draw, FloatArray, IntArray, KVPools, Logits, StepInput
from kvscape.engine.devices.library import load_library, read_metadata, read_shaders
from kvscape.engine.devices.parameters import parameters_of
from kvscape.engine.devices.pools import TensorLogits, check_page_size, forward_name
from kvscape.engine.devices.tensors import Block, tensor_list
from kvscape.engine.devices.tiles import Tiling
from kvscape.engine.devices.webgpu.choices import WebgpuChoices
from kvscape.engine.devices.webgpu.gpu import WebgpuGpu
from kvscape.engine.devices.webgpu.memory import Allocation, WebgpuMemory, address_of, tensor_at
from kvscape.engine.devices.webgpu.player import WebgpuPlayer
from kvscape.engine.devices.webgpu.recorder import Recordings, WebgpuRecorder, recorded_machine
from kvscape.engine.devices.webgpu.step import WebgpuInts
from kvscape.engine.devices.webgpu.timer import WebgpuTimer
from kvscape.engine.token_logprob import TokenLogprob

_THREADS = 64  # tiles that a GPU is kept busy by, an eighth of them
_WIDTH = 16  # page tables and tiles come in so many, so that few steps are recorded
_TILES, _PIECES = 3, 4  # among a step's blocks


@dataclass(frozen=True, eq=False)
class WebgpuPools:
    """For each layer group its pages and tails; a layer's lie in buffers of their own."""

    function: str
    pages: Sequence[Allocation]
    tails: Sequence[Allocation]
    arguments: Sequence[Any]
    recordings: Recordings

    @property
    def tensors(self) -> tuple[Any, ...]:
        return (*self.arguments[0], *self.arguments[1])

    @property
    def nbytes(self) -> int:
        return sum(allocation.nbytes for allocation in (*self.pages, *self.tails))


class WebgpuDevice:
    """A loaded library with its weights; ``check`` judges before these are copied.

    Raises DeviceError where the GPU does not start, ArtifactError when library and weights do not belong together,
    CapacityError for what is larger than a limit of the GPU.
    """

    def __init__(self, library: Path, weights: Path, adapter: Adapter, check: Check = unchecked) -> None:
        self._memory = WebgpuMemory(WebgpuGpu(adapter))
        self._recorder = WebgpuRecorder(self._memory, read_shaders(library).of)
        self._player = WebgpuPlayer(self._memory)
        self._vm = recorded_machine(load_library(library))
        self.metadata = read_metadata(self._vm, library)
        heads = self.metadata.model.num_key_value_heads
        self._tiling = Tiling(self.metadata.query_tile_tokens, self.metadata.key_range_tokens, heads, _THREADS)
        arrays = parameters_of(map_tensors(weights), self.metadata.param_names)
        self.weights_bytes = sum(array.nbytes for array in arrays.values())
        check(self.metadata, self.weights_bytes, self.available_bytes)
        self._parameters = tensor_list(self._uploaded(name, arrays) for name in arrays)
        self._functions = {name: self._vm[name] for name in map(forward_name, self.metadata.kv_dtypes)}
        self._step = WebgpuInts(self._memory, partial(arranged, groups=len(self.model.layer_groups)))
        self._choices = WebgpuChoices(self._vm, self._memory, self._recorder, self._player)

    @property
    def model(self) -> ModelConfig:
        return self.metadata.model

    @property
    def available_bytes(self) -> int:
        """Memory that is free now: the host's, for an adapter does not tell its own."""
        return available_memory_bytes()

    @property
    def taken_bytes(self) -> None:
        """An adapter does not tell."""
        return None

    def allocate(
        self, kv_dtype: str, num_pages: Sequence[int], page_size: int, num_tails: int, seen_tokens: int = 0
    ) -> WebgpuPools:
        check_page_size(page_size, self.metadata.page_size_multiple)
        layers = [len(group.layers) for group in self.model.layer_groups]
        page, tail = page_bytes(self.model, kv_dtype, page_size), tail_bytes(self.model, kv_dtype)
        sizes = list(zip(layers, num_pages, strict=True))
        found = [self._by_layer("a layer's KV cache", count, pages * page) for count, pages in sizes]
        waiting = [self._by_layer("keys of a group", count, num_tails * tail) for count in layers]
        seen = self._memory.allocate(4, "a number")
        self._memory.write(seen, np.array([seen_tokens], np.int32))
        tensors = [tensor_at(pool.start, (*size, page), "uint8") for pool, size in zip(found, sizes, strict=True)]
        tails = [
            tensor_at(each.start, (count, num_tails, tail // 2), "float16")
            for each, count in zip(waiting, layers, strict=True)
        ]
        arguments = (tensor_list(tensors), tensor_list(tails), tensor_at(seen.start, (1,), "int32"))
        self._recorder.forget()  # bindings keep buffers alive, those of pools that are gone
        pools = WebgpuPools(forward_name(kv_dtype), found, waiting, arguments, Recordings(self._recorder))
        for allocation in (*found, *waiting, seen):
            finalize(pools, self._memory.free, allocation)
        return pools

    def copy(self, pools: KVPools, pages: Sequence[IntArray], tails: IntArray) -> None:
        assert isinstance(pools, WebgpuPools)
        for pool, pairs, argument in zip(pools.pages, pages, pools.arguments[0], strict=True):
            self._player.copy_pieces(pool, int(argument.shape[2]), pairs)
        for pool, argument in zip(pools.tails, pools.arguments[1], strict=True):
            self._player.copy_pieces(pool, 2 * int(argument.shape[2]), tails)

    def forward(self, step: StepInput, pools: KVPools) -> TensorLogits:
        assert isinstance(pools, WebgpuPools)
        shapes = self._step.write(_padded(step_blocks(_wide(step), self._tiling)))
        function = self._functions[pools.function]

        def call() -> Any:
            return function(*self._step.arguments(shapes), *pools.arguments, self._parameters)

        recording = pools.recordings.of(pools.function, (self._step.generation, shapes), call)
        self._player.play(recording.dispatches)
        return TensorLogits(recording.result, len(step.logit_rows))

    def logprobs(self, logits: Logits, token_ids: Sequence[int]) -> FloatArray:
        assert isinstance(logits, TensorLogits)
        return self._choices.logprobs(logits, token_ids)

    def greedy(self, logits: Logits) -> list[int]:
        assert isinstance(logits, TensorLogits)
        return self._choices.greedy(logits)

    def sample(self, logits: Logits, draws: Sequence[Draw]) -> list[int]:
        assert isinstance(logits, TensorLogits)
        return self._choices.sample(logits, draws)

    def token_logprobs(self, logits: Logits, asked: Sequence[Asked]) -> list[TokenLogprob]:
        assert isinstance(logits, TensorLogits)
        return self._choices.token_logprobs(logits, asked)

    def fetch(self, logits: Logits) -> FloatArray:
        assert isinstance(logits, TensorLogits)
        rows, columns = logits.shape
        data = self._player.fetch(address_of(logits.tensor), 4 * rows * columns)
        return np.frombuffer(data, np.float32).reshape(rows, columns)

    def instrument(self, instrument: Any) -> None:
        """Call ``instrument`` around every call of the machine, which is asked anew for the next step."""
        self._recorder.forget()
        self._vm.set_instrument(instrument)

    def seconds(self, calls: Sequence[Callable[[], Any]]) -> list[float]:
        """How long each of some calls of the machine's functions takes on the GPU, one after the other."""
        return WebgpuTimer(self._memory, self._recorder, self._player).seconds(calls)

    def synchronize(self) -> None:
        """Wait until the GPU has done all that it was asked."""
        self._player.wait()

    def _by_layer(self, what: str, layers: int, nbytes: int) -> Allocation:
        return self._memory.allocate(layers * nbytes, what, nbytes)

    def _uploaded(self, name: str, arrays: dict[str, Any]) -> Any:
        """A parameter; a large matrix and its scales lie in parts of the same rows, as the kernels bind them."""
        array = arrays[name]
        codes = arrays.get(f"{name.removesuffix('.scales')}.codes", array)
        part_bytes = part_rows(len(codes), codes.nbytes) * (array.nbytes // len(array))
        allocation = self._memory.allocate(array.nbytes, name, part_bytes)
        self._memory.write(allocation, array)
        return tensor_at(allocation.start, array.shape, str(array.dtype))


def _wide(step: StepInput) -> StepInput:
    """The step with page tables of a width that few steps differ in."""
    missing = [(0,) * (-len(tables[0]) % _WIDTH) for tables in step.page_tables]
    tables = [[(*row, *more) for row in rows] for rows, more in zip(step.page_tables, missing, strict=True)]
    return step._replace(page_tables=tables)


def _padded(blocks: list[Block]) -> list[Block]:
    """The blocks with more tiles, of no tokens, where each is one range of keys: there are more with each range."""
    (tiles, width), numbers = blocks[_TILES]
    missing = -tiles % _WIDTH if blocks[_PIECES][1] else 0
    blocks[_TILES] = (tiles + missing, width), [*numbers, *[0] * (missing * width)]
    return blocks
