"""What TVM's machine launches is recorded once for each shape of a step, and played from then on.

The machine and its host functions take tens of microseconds for a launch in Python, and do the same each time: what
changes from step to step lies in buffers. The machine asks for memory as for the CPU's; while it is made, the functions
that it will ask are ours.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from struct import Struct
from typing import Any, NamedTuple

from kvscape.artifact.shaders import Shader
from kvscape.engine.devices.runtime import tvm, tvm_ffi
from kvscape.engine.devices.webgpu.gpu import NUMBERS_BYTES
from kvscape.engine.devices.webgpu.memory import Allocation, WebgpuMemory, tensor_at

_LAUNCH = "kvscape.webgpu.launch"
_SLOT_BYTES = 256
_SLOTS = 1024
_KEPT = 64
_current: "ContextVar[WebgpuRecorder]" = ContextVar("_current")


class Dispatch(NamedTuple):
    """A launch, as it is played."""

    pipeline: Any
    group: Any
    offset: Any
    """Of the uniform numbers, in C's form."""
    grid: tuple[int, int]


@dataclass(frozen=True)
class Recording:
    """What a call launches, and the tensor that it returns."""

    dispatches: Sequence[Dispatch]
    result: Any


@dataclass(frozen=True)
class _Storage:
    allocation: Allocation


class WebgpuRecorder:
    """Turns calls of a library's functions into recordings.

    Scratch memory is one set of buffers for each function, kept from call to call; ``generation`` changes when what was
    recorded must not be played any more.
    """

    def __init__(self, memory: WebgpuMemory, shaders: Mapping[str, Shader]) -> None:
        tvm_ffi.register_global_func(_LAUNCH, _launch, override=True)
        self._memory, self._shaders = memory, shaders
        self.generation = 0
        self._pipelines: dict[str, Any] = {}
        self._arenas: dict[str, list[Allocation]] = {}
        self._uniforms = memory.gpu.uniforms(_SLOTS * _SLOT_BYTES)
        self.forget()

    def record(self, name: str, call: Callable[[], Any]) -> Recording:
        """What ``call`` of the function ``name`` launches; it may have begun a new generation."""
        while True:
            before = self.generation
            self._arena, self._storages, self._dispatches = self._arenas.setdefault(name, []), 0, list[Dispatch]()
            token = _current.set(self)
            try:
                result = call()
            finally:
                _current.reset(token)
            if self.generation == before:
                return Recording(self._dispatches, result)

    def launch(self, name: str, *arguments: Any) -> None:
        shader = self._shaders[name]
        count = len(shader.writes)
        *numbers, width, height = map(int, arguments[count:])
        if width == 0 or height == 0:
            return
        places = [
            self._memory.place(_address(argument), nbytes)
            for argument, nbytes in zip(arguments[:count], shader.sizes, strict=True)
        ]
        group = self._group(shader.writes, places)
        self._dispatches.append(Dispatch(self._pipeline(shader), group, self._slot(tuple(numbers)), (width, height)))

    def storage(self, nbytes: int) -> _Storage:
        """The next piece of the function's scratch memory."""
        index, self._storages = self._storages, self._storages + 1
        if index == len(self._arena):
            self._arena.append(self._memory.allocate(nbytes, "scratch memory"))
        elif self._arena[index].nbytes < nbytes:
            self._memory.free(self._arena[index])
            self._arena[index] = self._memory.allocate(nbytes, "scratch memory")
            self.forget()
        return _Storage(self._arena[index])

    def forget(self) -> None:
        """Begin a new generation: bindings and numbers of the last one are not used again."""
        self.generation += 1
        self._groups: dict[Any, Any] = {}
        self._slots: dict[tuple[int, ...], Any] = {}

    def _pipeline(self, shader: Shader) -> Any:
        if shader.name not in self._pipelines:
            self._pipelines[shader.name] = self._memory.gpu.pipeline(shader.text, shader.writes)
        return self._pipelines[shader.name]

    def _group(self, writes: tuple[bool, ...], places: Sequence[tuple[Any, int]]) -> Any:
        key = (writes, *((id(buffer), offset) for buffer, offset in places))
        if key not in self._groups:
            self._groups[key] = self._memory.gpu.group(writes, places, self._uniforms)
        return self._groups[key]

    def _slot(self, numbers: tuple[int, ...]) -> Any:
        """Where equal numbers lie already, or where they are written now."""
        if numbers not in self._slots:
            if len(self._slots) == _SLOTS:
                self.forget()
            start = len(self._slots) * _SLOT_BYTES
            self._slots[numbers] = self._memory.gpu.offset(start)
            data = Struct(f"={len(numbers)}I{NUMBERS_BYTES - 4 * len(numbers)}x").pack(*numbers)
            self._memory.gpu.queue.write_buffer(self._uniforms, start, data)
        return self._slots[numbers]


class Recordings:
    """Recordings by key, the oldest forgotten, and all of them with a new generation."""

    def __init__(self, recorder: WebgpuRecorder) -> None:
        self._recorder, self._generation = recorder, 0
        self._found: dict[Any, Recording] = {}

    def of(self, name: str, key: Any, call: Callable[[], Any]) -> Recording:
        """The recording of ``call`` of the function ``name``; what the key does not tell must not change."""
        self._renew()
        if key not in self._found:
            recording = self._recorder.record(name, call)
            self._renew()
            if len(self._found) == _KEPT:
                del self._found[next(iter(self._found))]
            self._found[key] = recording
        return self._found[key]

    def _renew(self) -> None:
        if self._generation != self._recorder.generation:
            self._generation = self._recorder.generation
            self._found.clear()


def _address(argument: Any) -> int:
    return int(argument.value or 0) if hasattr(argument, "value") else int(argument)


def _alloc_storage(_machine: Any, shape: Any, *_: Any) -> Any:
    return _current.get().storage(int(shape[0]))


def _alloc_tensor(storage: _Storage, offset: int, shape: Any, dtype: Any, *_: Any) -> Any:
    return tensor_at(storage.allocation.start + int(offset), tuple(map(int, shape)), str(dtype))


def _launch(name: str, *arguments: Any) -> None:
    _current.get().launch(str(name), *arguments)


@contextmanager
def _answering(functions: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Let machines that are made meanwhile find these instead of TVM's functions."""
    others = {name: tvm_ffi.get_global_func(name) for name in functions}
    for name, function in functions.items():
        tvm_ffi.register_global_func(name, function, override=True)
    try:
        yield
    finally:
        for name, function in others.items():
            tvm_ffi.register_global_func(name, function, override=True)


def recorded_machine(module: Any) -> Any:
    """TVM's machine for a module whose calls are recorded."""
    ours: dict[str, Callable[..., Any]] = {
        "vm.builtin.alloc_storage": _alloc_storage,
        "vm.builtin.alloc_tensor": _alloc_tensor,
    }
    with _answering(ours):
        return tvm.runtime.vm.VirtualMachine(module, [tvm.runtime.device("cpu", 0)], "naive")
