"""The limits of a GPU of WebGPU in shaders of three lines: copying, f32 arithmetic, and launching."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kvscape.analysis.adapters import find_adapter
from kvscape.config import AdapterName

if TYPE_CHECKING:
    from kvscape.engine.devices.webgpu.recorder import Dispatch

PASS_S = 0.05  # of work, at least, so that waiting for it counts little
_PASSES, _LAUNCHES = 3, 512
_COPY_BYTES = 128 << 20  # what every GPU binds, and few of their caches hold
_THREADS, _WORKGROUPS = 256, 2048
_CHAINS = 4  # of four numbers each, so that no product waits for the one before
_OPERATIONS = 2 * 4 * _CHAINS * _THREADS * _WORKGROUPS  # of a round; a multiply-add is two

_WRITES = (False, True)
_BUFFERS = """@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> target_: array<vec4<f32>>;
struct Numbers { rounds: u32 }
@group(0) @binding(2) var<uniform> numbers: Numbers;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let i = group.x * 256u + thread;
"""
_COPY = _BUFFERS + "  target_[i] = source[i];\n}\n"
_NOTHING = _BUFFERS + "  if (numbers.rounds == 1u) { target_[i] = source[i]; }\n}\n"
_CHAIN = "\n    ".join(f"x{i} = fma(x{i}, a, b);" for i in range(_CHAINS))
_STARTS = "\n  ".join(f"var x{i} = source[{i}] + f32(i);" for i in range(_CHAINS))
_PRODUCTS = (
    _BUFFERS
    + f"""  let a = source[4];
  let b = source[5];
  {_STARTS}
  for (var round = 0u; round < numbers.rounds; round += 1u) {{
    {_CHAIN}
  }}
  target_[i] = x0 + x1 + x2 + x3;
}}
"""
)


class WebgpuProbe:
    """Measures one GPU that ``device`` names."""

    def __init__(self, device: str, name: AdapterName, clock: Callable[[], float] = time.perf_counter) -> None:
        from kvscape.engine.devices.webgpu.gpu import WebgpuGpu
        from kvscape.engine.devices.webgpu.memory import WebgpuMemory
        from kvscape.engine.devices.webgpu.player import WebgpuPlayer

        self._gpu = WebgpuGpu(find_adapter(device, name))
        self._memory = WebgpuMemory(self._gpu)
        self._player, self._clock = WebgpuPlayer(self._memory), clock
        self._uniforms, self._offset = self._gpu.uniforms(256), self._gpu.offset(0)

    def copied_bytes_per_s(self) -> float:
        """Bytes read and bytes written in a second."""
        dispatch = self._dispatch(_COPY, _COPY_BYTES // (16 * _THREADS), *self._buffers(_COPY_BYTES))
        return 2 * _COPY_BYTES * self._rate(lambda times: [dispatch] * times)

    def operations_per_s(self) -> float:
        """Operations of f32 products and sums, in as many rounds as take long enough."""
        dispatch = self._dispatch(_PRODUCTS, _WORKGROUPS, *self._buffers(16 * _THREADS * _WORKGROUPS))

        def rounds(times: int) -> Sequence["Dispatch"]:
            self._set(16 * times)
            return [dispatch]

        return 16 * _OPERATIONS * self._rate(rounds)

    def call_s(self) -> float:
        """Seconds from one launch to the next of many that do nothing."""
        dispatches = [self._dispatch(_NOTHING, 1, *self._buffers(16 * _THREADS))] * _LAUNCHES
        self._set(0)
        self._seconds(dispatches)
        return min(self._seconds(dispatches) for _ in range(_PASSES)) / _LAUNCHES

    def _buffers(self, nbytes: int) -> list[Any]:
        """What is read, and what is written."""
        return [self._gpu.buffer(nbytes, "a probe") for _ in _WRITES]

    def _dispatch(self, text: str, workgroups: int, *buffers: Any) -> "Dispatch":
        from kvscape.engine.devices.webgpu.recorder import Dispatch

        group = self._gpu.group(_WRITES, [(buffer, 0) for buffer in buffers], self._uniforms)
        return Dispatch(self._gpu.pipeline(text, _WRITES), group, self._offset, (workgroups, 1))

    def _set(self, rounds: int) -> None:
        self._gpu.queue.write_buffer(self._uniforms, 0, rounds.to_bytes(4, "little"))

    def _rate(self, work: Callable[[int], Sequence[Any]]) -> float:
        """How often in a second the work is done; the best of some passes."""
        times = 1
        while self._seconds(work(times)) < PASS_S:
            times *= 2
        return times / min(self._seconds(work(times)) for _ in range(_PASSES))

    def _seconds(self, dispatches: Sequence["Dispatch"]) -> float:
        self._player.wait()
        start = self._clock()
        self._player.play(dispatches)
        self._player.wait()
        return self._clock() - start
