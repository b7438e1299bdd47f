"""What a profiler must know of a device's calls."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from kvscape.engine.devices.device import KVPools
from kvscape.engine.devices.runtime import tvm


@runtime_checkable
class HasTensors(Protocol):
    """Pools that are tensors of TVM's, wherever they lie."""

    @property
    def tensors(self) -> tuple[Any, ...]: ...


@runtime_checkable
class TimesCalls(Protocol):
    """A device that times calls of its functions itself."""

    def seconds(self, calls: Sequence[Callable[[], Any]]) -> list[float]: ...


def cheapest_call() -> Callable[..., Any]:
    """A function that takes any arguments and does next to nothing: what it takes is what passing them takes."""
    function: Callable[..., Any] = tvm.get_global_func("vm.builtin.make_tuple")
    return function


def pool_shapes(pools: KVPools) -> frozenset[tuple[int, ...]]:
    """Shapes of the tensors that hold keys and values."""
    assert isinstance(pools, HasTensors)
    return frozenset(tuple(map(int, tensor.shape)) for tensor in pools.tensors)
