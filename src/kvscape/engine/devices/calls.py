"""What a profiler must know of a device's calls."""

from collections.abc import Callable
from typing import Any

from kvscape.engine.devices.device import KVPools
from kvscape.engine.devices.pools import TensorPools
from kvscape.engine.devices.runtime import tvm


def cheapest_call() -> Callable[..., Any]:
    """A function that takes any arguments and does next to nothing: what it takes is what passing them takes."""
    function: Callable[..., Any] = tvm.get_global_func("vm.builtin.make_tuple")
    return function


def pool_shapes(pools: KVPools) -> frozenset[tuple[int, ...]]:
    """Shapes of the tensors that hold keys and values."""
    assert isinstance(pools, TensorPools)
    return frozenset(tuple(map(int, tensor.shape)) for tensor in pools.tensors)
