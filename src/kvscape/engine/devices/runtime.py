"""TVM's runtime without its compiler: 3 MB of code instead of 260, and half a second less to start."""

import os
import sys

if "tvm" not in sys.modules:
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")

import tvm
import tvm.runtime
import tvm.runtime.vm
import tvm_ffi_orcjit

__all__ = ["tvm", "tvm_ffi_orcjit"]
