"""WebGPU kernels: WGSL for the device (``source``), and host functions in TIR that launch it.

Why not TIR for the device as well: TVM's WGSL has 32-bit types only but prints others without a word, guards its grid
wrongly, assumes subgroups of 32, and leaves the order of sums to schedules, while a token's numbers here must not
depend on the batch. WGSL by hand is short, and needs no compiler before the driver's own. Core WGSL is enough: f16
numbers are read by ``unpack2x16float``, so one text runs with and without ``shader-f16`` and subgroups.
"""
