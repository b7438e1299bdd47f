"""The CPU: TVM's virtual machine, packed weights and KV pools in huge pages, pools written in place."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kvscape.analysis.free_memory import available_memory_bytes
from kvscape.analysis.memory import page_bytes, tail_bytes
from kvscape.artifact import LibraryMetadata
from kvscape.artifact.tensor_file import read_tensors
from kvscape.config import ModelConfig
from kvscape.engine.devices.arguments import arranged, step_blocks
from kvscape.engine.devices.device import Asked, Draw, FloatArray, IntArray, KVPools, Logits, StepInput
from kvscape.engine.devices.host_memory import allocate
from kvscape.engine.devices.library import load_library, read_metadata
from kvscape.engine.devices.parameters import parameters_of
from kvscape.engine.devices.pools import TensorLogits, TensorPools, check_page_size, forward_name
from kvscape.engine.devices.runtime import tvm
from kvscape.engine.devices.tensors import IntResult, IntTensors, numbers, tensor_list, zeros
from kvscape.engine.devices.tiles import Tiling
from kvscape.engine.draws import sampled
from kvscape.engine.logprobs import token_logprobs
from kvscape.engine.token_logprob import TokenLogprob


class CpuDevice:
    """A loaded library with its weights.

    ``threads`` holds for the whole process from its first kernel on. Raises ArtifactError when library and weights do
    not belong together.
    """

    def __init__(self, library: Path, weights: Path, threads: int) -> None:
        os.environ["TVM_NUM_THREADS"] = str(threads)
        # "naive": a step's scratch memory is freed with it; the pooled allocator keeps one of each size it ever saw.
        self._vm = tvm.runtime.vm.VirtualMachine(load_library(library), [tvm.runtime.device("cpu", 0)], "naive")
        self.metadata = read_metadata(self._vm, library)
        self._tiling = _tiling(self.metadata, threads)
        self._arrays = parameters_of(read_tensors(weights, allocate), self.metadata.param_names)
        self._parameters = tensor_list(map(tvm.runtime.from_dlpack, self._arrays.values()))
        functions = (*map(forward_name, self.metadata.kv_dtypes), "logprobs", "greedy")
        self._functions = {name: self._vm[name] for name in functions}
        self._step = IntTensors(partial(arranged, groups=len(self.model.layer_groups)))
        self._scored, self._chosen = IntTensors(), IntResult()

    @property
    def model(self) -> ModelConfig:
        return self.metadata.model

    @property
    def available_bytes(self) -> int:
        """Memory that is free now; of the weights, which are mapped, little has been read."""
        return available_memory_bytes()

    @property
    def taken_bytes(self) -> None:
        """It has no memory of its own."""
        return None

    @property
    def weights_bytes(self) -> int:
        """Bytes of the weights as the kernels read them."""
        return sum(array.nbytes for array in self._arrays.values())

    def allocate(
        self, kv_dtype: str, num_pages: Sequence[int], page_size: int, num_tails: int, seen_tokens: int = 0
    ) -> TensorPools:
        check_page_size(page_size, self.metadata.page_size_multiple)
        layers = [len(group.layers) for group in self.model.layer_groups]
        page, tail = page_bytes(self.model, kv_dtype, page_size), tail_bytes(self.model, kv_dtype) // 2
        return TensorPools(
            forward_name(kv_dtype),
            tensor_list(zeros((count, pages, page), np.uint8) for count, pages in zip(layers, num_pages, strict=True)),
            tensor_list(zeros((count, num_tails, tail), np.float16) for count in layers),
            tvm.runtime.tensor(np.array([seen_tokens], np.int32)),
        )

    def copy(self, pools: KVPools, pages: Sequence[IntArray], tails: IntArray) -> None:
        assert isinstance(pools, TensorPools)
        for tensor, pairs in zip(pools.pages, pages, strict=True):
            _copy(tensor, pairs)
        for tensor in pools.tails:
            _copy(tensor, tails)

    def forward(self, step: StepInput, pools: KVPools) -> TensorLogits:
        assert isinstance(pools, TensorPools)
        numbers_of_step = self._step.fill(step_blocks(step, self._tiling))
        forward = self._functions[pools.function]
        logits = forward(*numbers_of_step, pools.pages, pools.tails, pools.seen, self._parameters)
        return TensorLogits(logits, len(step.logit_rows))

    def logprobs(self, logits: Logits, token_ids: Sequence[int]) -> FloatArray:
        assert isinstance(logits, TensorLogits)
        (tensor,) = self._scored.fill([((len(token_ids),), token_ids)])
        return numbers(self._functions["logprobs"](logits.tensor, tensor))

    def greedy(self, logits: Logits) -> list[int]:
        assert isinstance(logits, TensorLogits)
        tensor, array = self._chosen.of(logits.rows)
        self._functions["greedy"](logits.tensor, tensor)
        token_ids: list[int] = array.tolist()
        return token_ids

    def sample(self, logits: Logits, draws: Sequence[Draw]) -> list[int]:
        return sampled(self.fetch(logits), draws)

    def token_logprobs(self, logits: Logits, asked: Sequence[Asked]) -> list[TokenLogprob]:
        return token_logprobs(self.fetch(logits), asked)

    def fetch(self, logits: Logits) -> FloatArray:
        assert isinstance(logits, TensorLogits)
        return numbers(logits.tensor)

    def instrument(self, instrument: Any) -> None:
        """Call ``instrument(function, name, before, result, *arguments)`` around every call of the machine, or none."""
        self._vm.set_instrument(instrument)


def _tiling(metadata: LibraryMetadata, threads: int) -> Tiling:
    heads = metadata.model.num_key_value_heads
    return Tiling(metadata.query_tile_tokens, metadata.key_range_tokens, heads, threads)


def _copy(tensor: Any, pairs: IntArray) -> None:
    """Copy pages or tails of all layers in place: [c, 2], source and destination."""
    array = np.from_dlpack(tensor)
    array[:, pairs[:, 1]] = array[:, pairs[:, 0]]
