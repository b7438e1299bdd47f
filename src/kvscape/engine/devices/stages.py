"""The stages of a model's layers (``compiler.stages``) on the CPU, over whole sequences of one length."""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kvscape.analysis.memory import page_bytes, tail_bytes
from kvscape.artifact.stages import StagesMetadata, stage_name
from kvscape.config import EngineConfig, LayerGroup, ModelConfig, Window
from kvscape.engine.devices.arguments import step_blocks
from kvscape.engine.devices.device import FloatArray, StepInput
from kvscape.engine.devices.library import load_library
from kvscape.engine.devices.runtime import tvm
from kvscape.engine.devices.tensors import IntTensors, numbers, zeros
from kvscape.engine.devices.tiles import Tiling

_PAGE_SIZE = 16
_INTEGERS = (
    *("token_ids", "positions", "sequences", "tiles", "pieces", "logit_rows"),
    *("slots", "page_tables", "windows", "sink_positions"),
)


class CpuStages:
    """A loaded library of stages, for batches of ``sequences`` times ``length`` tokens, one sequence behind the other.

    ``threads`` holds for the whole process from its first kernel on.
    """

    def __init__(self, library: Path, config: ModelConfig, sequences: int, length: int, threads: int) -> None:
        os.environ["TVM_NUM_THREADS"] = str(threads)
        self._vm = tvm.runtime.vm.VirtualMachine(load_library(library), [tvm.runtime.device("cpu", 0)], "naive")
        self.metadata = StagesMetadata.from_json(str(self._vm["_metadata"]()))
        self._config, self._sequences, self._length, self._threads = config, sequences, length, threads
        self._steps = [_integers(self._step(group), self._tiling) for group in config.layer_groups]
        self._floats: dict[str, Any] = {}

    def run(self, group: int, stage: int, inputs: Mapping[str, FloatArray]) -> tuple[FloatArray, ...]:
        """What a layer of ``group`` computes before its product ``stage``, or behind the last one: [tokens, columns].

        ``inputs`` are hidden states ``x``, products by their names and the weights of norms; more than is needed may be
        given.
        """
        name = stage_name(group, stage)
        tensors = {**self._steps[group], **self._cache}
        arguments = [tensors.get(key) or self._filled(key, inputs[key]) for key in self.metadata.functions[name]]
        return tuple(numbers(result) for result in self._vm[name](*arguments))

    def needs(self, group: int, stage: int, name: str) -> bool:
        """Whether a stage takes an input of that name."""
        return name in self.metadata.functions[stage_name(group, stage)]

    @cached_property
    def _cache(self) -> dict[str, Any]:
        """One layer's keys and values in f32; every layer writes them anew."""
        pages = self._sequences * self._pages
        return {
            "pools": zeros((1, pages, page_bytes(self._config, "f32", _PAGE_SIZE)), np.uint8),
            "tails": zeros((1, self._sequences, tail_bytes(self._config, "f32") // 2), np.float16),
            "seen": tvm.runtime.tensor(np.array([self._length], np.int32)),
        }

    @property
    def _pages(self) -> int:
        return -(-self._length // _PAGE_SIZE)

    @property
    def _tiling(self) -> Tiling:
        heads = self._config.num_key_value_heads
        return Tiling(self.metadata.query_tile_tokens, self.metadata.key_range_tokens, heads, self._threads)

    def _step(self, group: LayerGroup) -> StepInput:
        count, length, pages = self._sequences, self._length, self._pages
        positions = list(range(length)) * count
        first_slots = [sequence * pages * _PAGE_SIZE for sequence in range(count) for _ in range(length)]
        return StepInput(
            token_ids=positions,
            positions=positions,
            query_starts=[length * sequence for sequence in range(count + 1)],
            kv_lengths=[length] * count,
            slots=[[first + position for first, position in zip(first_slots, positions, strict=True)]],
            page_tables=[[list(range(sequence * pages, (sequence + 1) * pages)) for sequence in range(count)]],
            windows=[self._window(group)],
            logit_rows=[],
            tails=list(range(count)),
        )

    def _window(self, group: LayerGroup) -> Window:
        return EngineConfig(context_window_size=self._length).window(group)

    def _filled(self, key: str, values: FloatArray) -> Any:
        """A tensor of its own for each input: kernels want memory that is aligned."""
        tensor = self._floats.get(key)
        if tensor is None or tuple(tensor.shape) != values.shape:
            tensor = self._floats[key] = zeros(values.shape, np.float32)
        np.from_dlpack(tensor)[:] = values
        return tensor


def _integers(step: StepInput, tiling: Tiling) -> dict[str, Any]:
    tensors = IntTensors().fill(step_blocks(step, tiling))
    return dict(zip(_INTEGERS, tensors, strict=True))
