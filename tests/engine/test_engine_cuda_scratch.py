"""The one tensor of scratch memory, here in the host's memory: it moves only where a step needs more."""

from typing import Any

import pytest

from kvscape.engine.devices.cuda import scratch as scratch_module
from kvscape.engine.devices.cuda.scratch import CudaScratch
from kvscape.engine.devices.cuda.tensors import empty
from kvscape.engine.devices.runtime import tvm
from kvscape.errors import CapacityError

MACHINE = {"scratch_forward_f16": lambda sizes: [(1 << 20) * sizes[0] - 5]}
"""A step takes a MiB for each token."""


def step(scratch: CudaScratch, tokens: int) -> Any:
    return scratch.of("forward_f16", (tokens, 1, 1, 8))


def test_it_moves_where_a_step_needs_more_and_says_so_before() -> None:
    moves: list[int] = []
    scratch = CudaScratch(MACHINE, tvm.runtime.device("cpu", 0), lambda: moves.append(scratch.nbytes))
    first = step(scratch, 3)
    assert first.shape == (3 << 20,)
    assert step(scratch, 1).same_as(first) and step(scratch, 3).same_as(first)
    assert step(scratch, 4).shape == (4 << 20,)
    assert (moves, scratch.nbytes) == ([0, 3 << 20], 4 << 20)


def test_a_step_that_does_not_fit_is_one_line_and_a_smaller_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(shape: tuple[int, ...], dtype: str, device: Any) -> Any:
        if shape[0] > 2 << 20:
            raise RuntimeError("CUDA: out of memory")
        return empty(shape, dtype, device)

    monkeypatch.setattr(scratch_module, "empty", small)
    scratch = CudaScratch(MACHINE, tvm.runtime.device("cpu", 0), lambda: None)
    step(scratch, 1)
    with pytest.raises(CapacityError, match="out of memory on cuda:0 for a step's scratch memory"):
        step(scratch, 9)
    assert scratch.nbytes == 0 and step(scratch, 2).shape == (2 << 20,)
