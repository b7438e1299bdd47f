"""A GPU opened through ``wgpu``: its limits asked for, buffers, pipelines."""

from collections.abc import Mapping, Sequence
from typing import Any

from kvscape.analysis.adapters import LIMITS, TIME_FEATURE, Adapter
from kvscape.errors import CapacityError, DeviceError

NUMBERS_BYTES = 64
"""The uniform numbers of a launch, at most."""

_DO = "use a smaller model, KV cache or prefill_chunk_size"
_BOUNDS_CHECKS = 1
_OFFSET_BYTES = 256  # what offsets are multiples of, in every GPU
_ASKED = (*LIMITS, "max-compute-workgroup-size-x")


class WebgpuGpu:
    """One device of an adapter. Raises DeviceError if the driver refuses it."""

    def __init__(self, adapter: Adapter) -> None:
        import wgpu

        self._wgpu, self.adapter = wgpu, adapter
        try:
            self.device = adapter.handle.request_device_sync(
                required_features=[TIME_FEATURE] if TIME_FEATURE in adapter.features else [],
                required_limits={name: adapter.handle.limits[name] for name in _ASKED},
            )
        except Exception as error:  # what a broken driver raises is not documented
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise DeviceError(f"{adapter.name} does not start", why, "use --device cpu") from None
        self.limits: Mapping[str, int] = self.device.limits
        self._layouts: dict[tuple[bool, ...], Any] = {}

    @property
    def queue(self) -> Any:
        return self.device.queue

    def buffer(self, nbytes: int, what: str) -> Any:
        """Memory that is zeros; raise CapacityError with the limit that it breaks."""
        flags = self._wgpu.BufferUsage
        usage = flags.STORAGE | flags.COPY_SRC | flags.COPY_DST
        size = max(16, nbytes + -nbytes % 16)
        for name in ("max-storage-buffer-binding-size", "max-buffer-size"):
            if size > self.limits[name]:
                why = f"{self.adapter.name} has {name} {self.limits[name]}"
                raise CapacityError(f"{what} takes {size} bytes in one piece", why, _DO)
        return self._created(size, usage, what)

    def staging(self, nbytes: int) -> Any:
        """Memory that the host reads what was copied to it."""
        flags = self._wgpu.BufferUsage
        return self._created(nbytes, flags.MAP_READ | flags.COPY_DST, "a result")

    def uniforms(self, nbytes: int) -> Any:
        flags = self._wgpu.BufferUsage
        return self._created(nbytes, flags.UNIFORM | flags.COPY_DST, "numbers")

    def _created(self, size: int, usage: Any, what: str) -> Any:
        try:
            return self.device.create_buffer(size=size, usage=usage)
        except self._wgpu.GPUOutOfMemoryError:
            why = f"{self.adapter.name} has no memory left"
            raise CapacityError(f"{what} takes {size} bytes", why, _DO) from None

    def pipeline(self, text: str, writes: tuple[bool, ...]) -> Any:
        """The compiled shader, with one uniform binding behind those of ``writes``."""
        layout = self.device.create_pipeline_layout(bind_group_layouts=[self.layout(writes)])
        module = self._unbounded(text)
        return self.device.create_compute_pipeline(layout=layout, compute={"module": module, "entry_point": "main"})

    def _unbounded(self, text: str) -> Any:
        """A shader module that trusts the shader's loops to end: wgpu would count the turns of each, inner loops too.
        What is read and written is checked all the same."""
        from wgpu.backends.wgpu_native import ffi, lib
        from wgpu.backends.wgpu_native._api import GPUShaderModule

        code = ffi.new("char[]", text.encode())
        source, descriptor = ffi.new("WGPUShaderSourceWGSL *"), ffi.new("WGPUShaderModuleDescriptor *")
        source.chain.sType, source.code.data, source.code.length = lib.WGPUSType_ShaderSourceWGSL, code, len(code) - 1
        descriptor.nextInChain = ffi.cast("WGPUChainedStruct *", source)
        handle = lib.wgpuDeviceCreateShaderModuleTrusted(self.device._internal, descriptor, _BOUNDS_CHECKS)
        return GPUShaderModule("", handle, self.device)

    def layout(self, writes: tuple[bool, ...]) -> Any:
        if writes not in self._layouts:
            self._check_bindings(len(writes))
            kinds = [{"type": "storage" if each else "read-only-storage"} for each in writes]
            uniform = {"type": "uniform", "has_dynamic_offset": True, "min_binding_size": 0}
            entries = [
                {"binding": index, "visibility": self._wgpu.ShaderStage.COMPUTE, "buffer": kind}
                for index, kind in enumerate([*kinds, uniform])
            ]
            self._layouts[writes] = self.device.create_bind_group_layout(entries=entries)
        return self._layouts[writes]

    def _check_bindings(self, count: int) -> None:
        name = "max-storage-buffers-per-shader-stage"
        if count > self.limits[name]:
            why, do = f"{self.adapter.name} has {name} {self.limits[name]}", "use another --kv-dtype than int4"
            raise CapacityError(f"a kernel takes {count} buffers", why, do)

    def group(self, writes: tuple[bool, ...], places: Sequence[tuple[Any, int]], uniforms: Any) -> Any:
        """Bindings: buffers from an offset to their end, and the uniform numbers."""
        assert not any(offset % _OFFSET_BYTES for _, offset in places), "a tensor begins where some GPUs cannot bind it"
        entries = [
            {"binding": index, "resource": {"buffer": buffer, "offset": offset, "size": buffer.size - offset}}
            for index, (buffer, offset) in enumerate(places)
        ]
        last = {"buffer": uniforms, "offset": 0, "size": NUMBERS_BYTES}
        entries.append({"binding": len(places), "resource": last})
        return self.device.create_bind_group(layout=self.layout(writes), entries=entries)

    @property
    def tells_time(self) -> bool:
        return TIME_FEATURE in self.adapter.features

    @property
    def tick_ns(self) -> float:
        """Nanoseconds of what its clock counts."""
        from wgpu.backends.wgpu_native import lib

        return float(lib.wgpuQueueGetTimestampPeriod(self.queue._internal))

    def times(self, count: int) -> Any:
        """Places for times that passes write."""
        return self.device.create_query_set(type="timestamp", count=count)

    def read_times(self, encoder: Any, times: Any) -> Any:
        """Send what the encoder has, and wait for the times, u64 ticks."""
        flags = self._wgpu.BufferUsage
        buffer = self._created(8 * times.count, flags.QUERY_RESOLVE | flags.COPY_SRC, "times")
        encoder.resolve_query_set(times, 0, times.count, buffer, 0)
        self.queue.submit([encoder.finish()])
        return self.queue.read_buffer(buffer)

    def offset(self, nbytes: int) -> Any:
        """A dynamic offset as the driver's library takes it."""
        from wgpu.backends.wgpu_native import ffi

        return ffi.new("uint32_t[]", [nbytes])
