"""TVM's runtime without its compiler: 3 MB of code instead of 260, and half a second less to start.

Without torch, too: tvm_ffi imports it wherever it is installed, which takes two seconds, for tensors that kvscape does
not have. A program that has imported torch before keeps it.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Let an import of ``module``, unless there was one already, fail as if it were not installed."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


if "tvm" not in sys.modules:
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")

with _without("torch"):
    import tvm
    import tvm.runtime
    import tvm.runtime.vm
    import tvm_ffi
    import tvm_ffi_orcjit

__all__ = ["tvm", "tvm_ffi", "tvm_ffi_orcjit"]
