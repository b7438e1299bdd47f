"""The CPU device with graphs of launches: steps in the shapes of their bucket, recorded and done again in the test."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kvscape.engine.devices import KVPools, StepInput
from kvscape.engine.devices.arguments import arranged
from kvscape.engine.devices.cpu import CpuDevice
from kvscape.engine.devices.decode_graphs import DecodeGraphs
from kvscape.engine.devices.decode_numbers import Shape, Spare
from kvscape.engine.devices.pools import TensorLogits, TensorPools
from kvscape.engine.devices.tensors import zeros


class HostInts:
    """The device's side is the host's; what is not written is no place in a cache."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self.tensors: list[Any] = [zeros(shape, np.int32) for shape in shapes]
        self.arrays: list[npt.NDArray[np.int32]] = [
            np.asarray(np.from_dlpack(tensor), np.int32) for tensor in self.tensors
        ]
        for array in self.arrays:
            array.fill(-(1 << 20))

    def send(self) -> None:
        pass


class Replay:
    """Does a function again; its result stays in its place."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run, self.result = run, run()
        self.launches = 0

    def forget(self) -> None:
        """Know no pools any more, as launches on a GPU do not."""
        self._run = lambda: self.result

    def launch(self) -> None:
        self.launches += 1
        np.from_dlpack(self.result)[:] = np.from_dlpack(self._run())


class ReplayingDevice(CpuDevice):
    """``replays`` are the graphs that were recorded; ``plain_steps`` counts the steps without one."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.replays: list[Replay] = []
        self.plain_steps = 0
        self.graphs = DecodeGraphs(self._record, HostInts, self._launch, self.metadata.key_range_tokens)

    def allocate(
        self, kv_dtype: str, num_pages: Sequence[int], page_size: int, num_tails: int, seen_tokens: int = 0
    ) -> TensorPools:
        more = [pages + 1 for pages in num_pages]
        pools = super().allocate(kv_dtype, more, page_size, num_tails + 1, seen_tokens)
        return replace(pools, spare=Spare(tuple(num_pages), tuple(pages * page_size for pages in num_pages), num_tails))

    def forward(self, step: StepInput, pools: KVPools) -> TensorLogits:
        assert isinstance(pools, TensorPools)
        logits = self.graphs.forward(step, pools)
        self.plain_steps += logits is None
        return super().forward(step, pools) if logits is None else logits

    def _record(self, run: Callable[[], Any]) -> tuple[Any, Replay]:
        self.replays.append(Replay(run))
        return self.replays[-1].result, self.replays[-1]

    def _launch(self, pools: TensorPools, numbers: Sequence[Any]) -> Any:
        arguments = arranged(numbers, len(self.model.layer_groups))
        return self._functions[pools.function](*arguments, pools.pages, pools.tails, pools.seen, self._parameters)
