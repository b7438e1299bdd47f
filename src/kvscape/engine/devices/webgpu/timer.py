"""How long single calls of a library's functions take: by the GPU's clock, or by the host's where it tells none."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kvscape.engine.devices.webgpu.memory import WebgpuMemory
from kvscape.engine.devices.webgpu.player import WebgpuPlayer
from kvscape.engine.devices.webgpu.recorder import Dispatch, WebgpuRecorder

_TOGETHER = 1024  # calls; a set of queries has two times of each
_NS = 1e-9


class WebgpuTimer:
    """Plays each call by itself, in the order in which they come."""

    def __init__(self, memory: WebgpuMemory, recorder: WebgpuRecorder, player: WebgpuPlayer) -> None:
        self._gpu, self._recorder, self._player = memory.gpu, recorder, player

    def seconds(self, calls: Sequence[Callable[[], Any]]) -> list[float]:
        """Of each call, which may launch several shaders or none."""
        launched = self._recorded(calls)
        if not self._gpu.tells_time:
            return [self._waited(dispatches) for dispatches in launched]
        parts = (launched[first : first + _TOGETHER] for first in range(0, len(launched), _TOGETHER))
        return [seconds for part in parts for seconds in self._told(part)]

    def _recorded(self, calls: Sequence[Callable[[], Any]]) -> list[Sequence[Dispatch]]:
        while True:
            before = self._recorder.generation
            found = [self._recorder.record("a single call", call).dispatches for call in calls]
            if self._recorder.generation == before:
                return found

    def _told(self, launched: Sequence[Sequence[Dispatch]]) -> Iterator[float]:
        times = self._gpu.times(2 * len(launched))
        encoder = self._gpu.device.create_command_encoder()
        for index, dispatches in enumerate(launched):
            first, last = 2 * index, 2 * index + 1
            writes = {"query_set": times, "beginning_of_pass_write_index": first, "end_of_pass_write_index": last}
            self._player.encode(encoder, dispatches, writes)
        ticks = np.frombuffer(self._gpu.read_times(encoder, times), np.uint64).reshape(-1, 2)
        for start, end in ticks.tolist():
            yield (end - start) * self._gpu.tick_ns * _NS

    def _waited(self, dispatches: Sequence[Dispatch]) -> float:
        self._player.wait()
        start = time.perf_counter()
        self._player.play(dispatches)
        self._player.wait()
        return time.perf_counter() - start
