"""CUDA kernels: C++ for the device (``source``), and host functions in TIR that launch it.

Why not TIR for the device as well: these kernels are tensor-core fragments, 16-byte loads, asynchronous copies and bit
tricks, which TIR could only spell as one intrinsic call for each instruction. In C++ they are short, every profiler and
sanitizer knows them, and a library needs one compilation of a second or two. No header is included, so NVRTC's wheel
is enough; a library holds machine code, so a GPU's host needs neither, and no compiler is asked when it is loaded.
"""
