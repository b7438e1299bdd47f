"""An NVIDIA GPU: TVM's virtual machine on the host, weights, KV pools and logits in the GPU's memory.

A step is copied to the GPU as one piece and launched without waiting, decode steps as one graph; the host waits where
it asks for token ids, log-probabilities or logits.
"""

import gc
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kvscape.analysis.cuda import gpus
from kvscape.analysis.gpu_memory import free_gpu_bytes
from kvscape.analysis.memory import page_bytes, tail_bytes
from kvscape.artifact import LibraryMetadata
from kvscape.artifact.tensor_file import map_tensors
from kvscape.config import ModelConfig
from kvscape.engine.devices.arguments import arranged, step_blocks, step_sizes
from kvscape.engine.devices.check import Check, unchecked
from kvscape.engine.devices.cuda.choices import CudaChoices
from kvscape.engine.devices.cuda.graph import CudaDriver, CudaRecorder
from kvscape.engine.devices.cuda.runtime import add_device_code, cuda_device, fitting, too_large
from kvscape.engine.devices.cuda.scratch import CudaScratch
from kvscape.engine.devices.cuda.tensors import CudaInts, CudaMemory, empty, fetched
from kvscape.engine.devices.decode_graphs import DecodeGraphs
from kvscape.engine.devices.decode_numbers import Spare
from kvscape.engine.devices.device import Asked, Draw, FloatArray, IntArray, KVPools, Logits, StepInput
from kvscape.engine.devices.library import load_library, module_metadata, read_device_code
from kvscape.engine.devices.parameters import parameters_of
from kvscape.engine.devices.pools import TensorLogits, TensorPools, check_page_size, forward_name
from kvscape.engine.devices.runtime import tvm
from kvscape.engine.devices.tensors import tensor_list
from kvscape.engine.devices.tiles import Tiling
from kvscape.engine.token_logprob import TokenLogprob

_BLOCKS_PER_PROCESSOR = 4


class CudaDevice:
    """A loaded library with its weights; without ``graphs`` every launch is one by one.

    ``available_bytes`` is what was free before, of which the weights, too, are a part; ``check`` judges by it before
    the GPU is asked for any memory. Raises DeviceError where there is no such GPU, ArtifactError when library and
    weights do not belong together, CapacityError where they do not fit.
    """

    def __init__(
        self, library: Path, weights: Path, index: int = 0, graphs: bool = True, check: Check = unchecked
    ) -> None:
        gc.collect()  # a device that is not used any more holds its memory until then: it knows itself
        self.available_bytes = free_gpu_bytes(index)
        self._device, self._index = cuda_device(index), index
        module = load_library(library)
        self.metadata = module_metadata(module, library)
        self._tiling = _tiling(self.metadata, index)
        arrays = parameters_of(map_tensors(weights), self.metadata.param_names).values()
        self.weights_bytes = sum(array.nbytes for array in arrays)
        check(self.metadata, self.weights_bytes, self.available_bytes)
        if self.weights_bytes > self.available_bytes:
            raise too_large(index, "code and weights")  # before they are read
        with fitting(index, "code and weights"):
            add_device_code(module, read_device_code(library))
            # "pooled": taking memory from the driver stops the GPU.
            self._vm = tvm.runtime.vm.VirtualMachine(module, [self._device], "pooled")
            self._parameters = tensor_list(tvm.runtime.tensor(array, self._device) for array in arrays)
        self._functions = {name: self._vm[name] for name in map(forward_name, self.metadata.kv_dtypes)}
        self._arranged = partial(arranged, groups=len(self.model.layer_groups))
        self._step = CudaInts(self._device, self._arranged)
        self._choices = CudaChoices(self._vm, self._device, self.model.vocab_size)
        self._scratch = CudaScratch(self._vm, self._device, self._forget)
        self._graphs = self._new_graphs() if graphs else None
        self._instrumented = False

    def _new_graphs(self) -> DecodeGraphs:
        recorder = CudaRecorder(self._device, CudaDriver())
        allocate, range_tokens = partial(CudaMemory, self._device), self.metadata.key_range_tokens
        return DecodeGraphs(recorder, allocate, self._launch, range_tokens)

    def _forget(self) -> None:
        if self._graphs:
            self._graphs.forget()

    @property
    def model(self) -> ModelConfig:
        return self.metadata.model

    @property
    def taken_bytes(self) -> int:
        """Bytes of the GPU's memory that are not free any more; what was taken once is kept, so it is the most so far.

        What other processes have taken or given back meanwhile cannot be told from it.
        """
        return self.available_bytes - free_gpu_bytes(self._index)

    def allocate(
        self, kv_dtype: str, num_pages: Sequence[int], page_size: int, num_tails: int, seen_tokens: int = 0
    ) -> TensorPools:
        check_page_size(page_size, self.metadata.page_size_multiple)
        layers = [len(group.layers) for group in self.model.layer_groups]
        page, tail = page_bytes(self.model, kv_dtype, page_size), tail_bytes(self.model, kv_dtype) // 2
        # One page and one tail more than were asked for: the spare ones.
        shapes = [(count, pages + 1, page) for count, pages in zip(layers, num_pages, strict=True)]
        with fitting(self._index, "the KV cache"):
            pages = [empty(shape, "uint8", self._device) for shape in shapes]
            tails = [empty((count, num_tails + 1, tail), "float16", self._device) for count in layers]
            seen = tvm.runtime.tensor(np.array([seen_tokens], np.int32), self._device)
        spare = Spare(tuple(num_pages), tuple(pages * page_size for pages in num_pages), num_tails)
        return TensorPools(forward_name(kv_dtype), tensor_list(pages), tensor_list(tails), seen, spare)

    def copy(self, pools: KVPools, pages: Sequence[IntArray], tails: IntArray) -> None:
        assert isinstance(pools, TensorPools)
        for tensor, pairs in zip(pools.pages, pages, strict=True):
            _copy(tensor, pairs)
        for tensor in pools.tails:
            _copy(tensor, tails)

    def forward(self, step: StepInput, pools: KVPools) -> TensorLogits:
        assert isinstance(pools, TensorPools)
        logits = self._graphs.forward(step, pools) if self._graphs and not self._instrumented else None
        if logits is None:
            arguments = self._step.fill(step_blocks(step, self._tiling))
            logits = TensorLogits(self._call(pools, arguments), len(step.logit_rows))
        return logits

    def _launch(self, pools: TensorPools, numbers: Sequence[Any]) -> Any:
        return self._call(pools, self._arranged(numbers))

    def _call(self, pools: TensorPools, arguments: Sequence[Any]) -> Any:
        scratch = self._scratch.of(pools.function, step_sizes(arguments))
        forward = self._functions[pools.function]
        with fitting(self._index, "a step"):
            return forward(*arguments, pools.pages, pools.tails, pools.seen, self._parameters, scratch)

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
        return fetched(logits.tensor)

    def synchronize(self) -> None:
        """Wait until the GPU has done all that it was asked."""
        self._device.sync()

    def instrument(self, instrument: Any) -> None:
        """Call ``instrument(function, name, before, result, *arguments)`` around every call of the machine, or none.

        A graph makes no calls: there are none meanwhile.
        """
        self._vm.set_instrument(instrument)
        self._instrumented = instrument is not None


def _tiling(metadata: LibraryMetadata, index: int) -> Tiling:
    found = gpus().found
    processors = found[index].processors if index < len(found) else 1
    heads = metadata.model.num_key_value_heads
    return Tiling(metadata.query_tile_tokens, metadata.key_range_tokens, heads, _BLOCKS_PER_PROCESSOR * processors)


def _copy(tensor: Any, pairs: IntArray) -> None:
    """Copy pages or tails of all layers in place: [c, 2], source and destination."""
    layers, count, size = map(int, tensor.shape)
    dtype, nbytes = str(tensor.dtype), size * np.dtype(str(tensor.dtype)).itemsize
    for source, destination in pairs.tolist() if nbytes else []:
        for layer in range(layers):
            first, second = (
                tensor._create_view((size,), dtype, (layer * count + place) * nbytes) for place in (source, destination)
            )
            first.copyto(second)
