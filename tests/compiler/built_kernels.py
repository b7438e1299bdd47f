"""Kernels compiled by themselves, called with numpy arrays."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tvm
from emulated_kernels import EmulatedKernels, missing_tools
from tvm.target import Target

from kvscape.compiler.kernels.cpu.isa import ISAS
from kvscape.compiler.pipeline import lowering
from kvscape.compiler.target import detect_target, find_target, runs_here

Array = npt.NDArray[Any]
# What a kernel leaves unwritten shows: bytes that are finite numbers, and no plausible ones, in every type.
GARBAGE = 0x7B


def only_where_it_runs(isa: str) -> pytest.MarkDecorator:
    """Skip where this processor lacks the instruction set; NEON runs emulated where the tools for it are."""
    lacking = find_target(isa).lacking
    reason = f"{isa} kernels are compiled but not run: this processor lacks {', '.join(lacking)}"
    if isa == "neon" and lacking:
        lacking = tuple(missing_tools())
        reason += f", and there is no {' and no '.join(lacking)}"
    return pytest.mark.skipif(bool(lacking), reason=reason)


def _params(isas: Iterable[str]) -> list[Any]:
    return [pytest.param(isa, marks=only_where_it_runs(isa)) for isa in isas]


BEST_ISA = detect_target().name
RUNNABLE_ISAS = _params(ISAS)
# For kernels whose source is the same for all: what this machine's users get, plain code, and another architecture.
DIFFERENT_ISAS = _params(sorted({BEST_ISA, "generic", "neon"}))


def compiled(functions: Mapping[str, Any], isa: str) -> Any:
    """TVM's executable of PrimFuncs by name, for the target that ``isa`` names."""
    mod = tvm.IRModule({name: function.with_attr("global_symbol", name) for name, function in functions.items()})
    with lowering():
        return tvm.compile(mod, target=Target(dict(find_target(isa).llvm)))


class Kernels:
    """``kernels(name, inputs, outputs)`` runs one and returns its outputs, which hold garbage before."""

    def __init__(self, functions: Mapping[str, Any], isa: str = BEST_ISA) -> None:
        executable = compiled(functions, isa)
        self._functions = executable if runs_here(isa) else EmulatedKernels(executable, list(functions))

    def __call__(
        self, name: str, inputs: Sequence[Any], outputs: Sequence[tuple[tuple[int, ...], str]]
    ) -> tuple[Array, ...]:
        results = [tvm.runtime.tensor(garbage(shape, dtype)) for shape, dtype in outputs]
        arguments = [tvm.runtime.tensor(value) if isinstance(value, np.ndarray) else value for value in inputs]
        self._functions[name](*arguments, *results)
        return tuple(result.numpy() for result in results)


def garbage(shape: tuple[int, ...], dtype: str) -> Array:
    array = np.empty(shape, dtype)
    array.view(np.uint8).fill(GARBAGE)
    return array


def set_threads(count: int) -> None:
    """Let TVM's thread pool use ``count`` threads: 1 or 2 (conftest.py makes it with two)."""
    tvm.get_global_func("runtime.NumThreads")()  # makes the pool, where nothing has run yet but emulated kernels
    os.environ["TVM_NUM_THREADS"] = str(count)
    tvm.get_global_func("runtime.config_threadpool")(0, count)
    assert tvm.get_global_func("runtime.NumThreads")() == count
