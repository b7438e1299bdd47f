"""Kernels compiled by themselves, called with numpy arrays."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tvm
from tvm.target import Target

from kvscape.analysis.cpu import cpu_features
from kvscape.compiler.pipeline import lowering
from kvscape.compiler.target import _NEEDED, detect_target, find_target

Array = npt.NDArray[Any]
# What a kernel leaves unwritten shows: bytes that are finite numbers, and no plausible ones, in every type.
GARBAGE = 0x7B


def _param(isa: str) -> Any:
    lacking = sorted(set(_NEEDED.get(isa, ())) - set(cpu_features()))
    reason = f"{isa} kernels are compiled but not run: this processor lacks {', '.join(lacking)}"
    return pytest.param(isa, marks=pytest.mark.skipif(bool(lacking), reason=reason))


RUNNABLE_ISAS = [_param(isa) for isa in ("avx512vnni", "avx2", "generic")]
BEST_ISA = detect_target().name


def compiled(functions: Mapping[str, Any], isa: str) -> Any:
    """TVM's executable of PrimFuncs by name, for the target that ``isa`` names."""
    mod = tvm.IRModule({name: function.with_attr("global_symbol", name) for name, function in functions.items()})
    with lowering():
        return tvm.compile(mod, target=Target(dict(find_target(isa).llvm)))


class Kernels:
    """``kernels(name, inputs, outputs)`` runs one and returns its outputs, which hold garbage before."""

    def __init__(self, functions: Mapping[str, Any], isa: str = BEST_ISA) -> None:
        executable = compiled(functions, isa)
        self._functions = {name: executable[name] for name in functions}

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
    os.environ["TVM_NUM_THREADS"] = str(count)
    tvm.get_global_func("runtime.config_threadpool")(0, count)
    assert tvm.get_global_func("runtime.NumThreads")() == count
