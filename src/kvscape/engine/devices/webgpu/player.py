"""Plays recorded launches, and fetches what they wrote."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from kvscape.engine.devices.device import IntArray
from kvscape.engine.devices.webgpu.memory import Allocation, WebgpuMemory
from kvscape.engine.devices.webgpu.recorder import Dispatch

# Launches at a time: the GPU works on them while the next ones are written down, and begins soon.
_FIRST, _SUBMITTED = 16, 64


class WebgpuPlayer:
    """Sends launches and copies to the GPU's queue, in order."""

    def __init__(self, memory: WebgpuMemory) -> None:
        from wgpu.backends.wgpu_native import ffi, lib

        self._memory, self._library, self._null = memory, lib, ffi.NULL
        self._staging: Any = None

    @property
    def _gpu(self) -> Any:
        return self._memory.gpu

    def play(self, dispatches: Sequence[Dispatch]) -> None:
        starts = [0, *range(_FIRST, len(dispatches), _SUBMITTED), len(dispatches)]
        for first, last in pairwise(starts):
            encoder = self._gpu.device.create_command_encoder()
            self.encode(encoder, dispatches[first:last])
            self._gpu.queue.submit([encoder.finish()])

    def fetch(self, address: int, nbytes: int, dispatches: Sequence[Dispatch] = ()) -> Any:
        """Bytes of a tensor once the launches are done."""
        buffer, offset = self._memory.place(address, nbytes)
        whole = nbytes + -nbytes % 4
        if self._staging is None or self._staging.size < whole:
            self._staging = self._gpu.staging(max(whole, 4096))
        encoder = self._gpu.device.create_command_encoder()
        if dispatches:
            self.encode(encoder, dispatches)
        encoder.copy_buffer_to_buffer(buffer, offset, self._staging, 0, whole)
        self._gpu.queue.submit([encoder.finish()])
        mapped = self._staging.map_async("READ_NOSYNC", 0, whole)
        # Waiting here spares a thread of wgpu's, which would be woken for it.
        self.wait()
        mapped.sync_wait()
        try:
            return self._staging.read_mapped(0, whole)[:nbytes]
        finally:
            self._staging.unmap()

    def copy_pieces(self, allocation: Allocation, piece_bytes: int, pairs: IntArray) -> None:
        """Copy pieces within each of the allocation's buffers: [c, 2], source and destination."""
        if not len(pairs) or not piece_bytes:
            return
        # A buffer cannot be copied to itself.
        between = self._gpu.buffer(piece_bytes, "a page")
        encoder = self._gpu.device.create_command_encoder()
        for buffer in allocation.buffers:
            for source, destination in pairs.tolist():
                encoder.copy_buffer_to_buffer(buffer, source * piece_bytes, between, 0, piece_bytes)
                encoder.copy_buffer_to_buffer(between, 0, buffer, destination * piece_bytes, piece_bytes)
        self._gpu.queue.submit([encoder.finish()])

    def wait(self) -> None:
        """Until all that was sent is done."""
        self._library.wgpuDevicePoll(self._gpu.device._internal, True, self._null)

    def encode(self, encoder: Any, dispatches: Sequence[Dispatch], times: Any = None) -> None:
        """One pass of launches; ``times`` says where the GPU writes when it begins and ends."""
        # The driver's library itself is asked: wgpu's own methods look for an error behind each call, and take three
        # times as long. What is wrong is said when the encoder is finished.
        library, work = self._library, encoder.begin_compute_pass(timestamp_writes=times)
        set_pipeline, set_group = library.wgpuComputePassEncoderSetPipeline, library.wgpuComputePassEncoderSetBindGroup
        dispatch, handle = library.wgpuComputePassEncoderDispatchWorkgroups, work._internal
        for pipeline, group, offset, (width, height) in dispatches:
            set_pipeline(handle, pipeline._internal)
            set_group(handle, 0, group._internal, 1, offset)
            dispatch(handle, width, height, 1)
        work.end()
