"""SwiGLU (Shazeer 2020, arXiv 2002.05202): silu(gate) * up, the two halves of one projection's output."""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.vector import SERIAL_ROWS, exp, load, splat

LANES = 8


def swiglu(K: int) -> Any:
    """Arguments: gate_up f32 [n, 2K]; y f32 [n, K]."""

    @T.inline
    def row(gate_up, y, i):
        for c in T.serial(K // LANES):
            gate = load(gate_up, i, c * LANES, lanes=LANES)
            up = load(gate_up, i, K + c * LANES, lanes=LANES)
            sigmoid = splat(T.float32(1), LANES) + exp(splat(T.float32(0), LANES) - gate, LANES)
            y[i, T.ramp(c * LANES, 1, LANES)] = gate / sigmoid * up

    @T.prim_func(s_tir=True)
    def kernel(p_gate_up: T.handle, p_y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        gate_up = T.match_buffer(p_gate_up, (n, 2 * K), "float32")
        y = T.match_buffer(p_y, (n, K), "float32")
        if n < SERIAL_ROWS:
            for i in T.serial(n):
                row(gate_up, y, i)
        else:
            for i in T.parallel(n):
                row(gate_up, y, i)

    return kernel
