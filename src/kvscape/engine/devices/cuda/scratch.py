"""The scratch memory of steps: one tensor that all of them share, where their logits lie too."""

from collections.abc import Callable
from typing import Any

from kvscape.engine.devices.cuda.runtime import fitting
from kvscape.engine.devices.cuda.tensors import empty
from kvscape.engine.devices.runtime import tvm_ffi

_GRAIN_BYTES = 1 << 20


class CudaScratch:
    """As large as the largest step so far; ``moving`` is called before it is given up for a larger one."""

    def __init__(self, vm: Any, device: Any, moving: Callable[[], None]) -> None:
        self._vm, self._device, self._moving = vm, device, moving
        self._tensor: Any = empty((0,), "uint8", device)
        self.nbytes = 0

    def of(self, function: str, sizes: tuple[int, int, int, int]) -> Any:
        """For a step by ``function`` with so many tokens, sequences, rows of logits and tiles.

        Raises CapacityError where there is not so much memory.
        """
        nbytes = int(self._vm[f"scratch_{function}"](tvm_ffi.Shape(sizes))[0])
        if nbytes > self.nbytes:
            self._moving()
            self._tensor, self.nbytes = None, 0
            whole = -(-nbytes // _GRAIN_BYTES) * _GRAIN_BYTES
            with fitting(self._device.index, "a step's scratch memory"):
                self._tensor = empty((whole,), "uint8", self._device)
            self.nbytes = whole
        return self._tensor
