"""Imports without what is not wanted of them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(module: str) -> Iterator[None]:
    """Let an import of ``module``, unless there was one already, fail as if it were not installed.

    tvm_ffi imports torch wherever that is, which takes two seconds, for tensors that kvscape does not have.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
