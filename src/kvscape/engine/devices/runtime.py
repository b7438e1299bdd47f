"""TVM's runtime without its compiler: 3 MB of code instead of 260, and half a second less to start.

Without torch, too. A program that has imported torch before keeps it.
"""

import os
import sys

from kvscape.absent import absent

if "tvm" not in sys.modules:
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")

with absent("torch"):
    import tvm
    import tvm.runtime
    import tvm.runtime.vm
    import tvm_ffi
    import tvm_ffi_orcjit

__all__ = ["tvm", "tvm_ffi", "tvm_ffi_orcjit"]
