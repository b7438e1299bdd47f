"""Gated linear units (Shazeer 2020, arXiv 2002.05202): act(gate) * up, the two halves of one projection's output."""

from collections.abc import Callable
from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.quantize import quantize_group
from kvscape.compiler.kernels.cpu.vector import SERIAL_ROWS, Expr, exp, load, splat

LANES = 8
Act = Callable[[Expr], Expr]


def swiglu(K: int) -> Any:
    """Arguments: gate_up f32 [n, 2K]; y f32 [n, K]."""
    return _floats(K, _silu)


def geglu(K: int) -> Any:
    """Arguments: gate_up f32 [n, 2K]; y f32 [n, K]."""
    return _floats(K, _gelu_tanh)


def swiglu_quantize(K: int, group: int) -> Any:
    """Arguments: gate_up f32 [n, 2K]; codes, scale and sum as ``quantize``."""
    return _codes(K, group, _silu)


def geglu_quantize(K: int, group: int) -> Any:
    """Arguments: gate_up f32 [n, 2K]; codes, scale and sum as ``quantize``."""
    return _codes(K, group, _gelu_tanh)


def _silu(gate: Expr) -> Expr:
    return gate / (splat(T.float32(1), LANES) + exp(splat(T.float32(0), LANES) - gate, LANES))


def _gelu_tanh(gate: Expr) -> Expr:
    """x (1 + tanh(u)) / 2 = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3) (Hendrycks, arXiv 1606.08415)."""
    cubic = splat(T.float32(1), LANES) + splat(T.float32(0.044715), LANES) * gate * gate
    return gate / (splat(T.float32(1), LANES) + exp(splat(T.float32(-1.5957691216057308), LANES) * gate * cubic, LANES))


def _gated(gate_up: Any, K: int, i: Expr, k: Expr, act: Act) -> Expr:
    """``LANES`` results of row i from column k on."""
    return act(load(gate_up, i, k, lanes=LANES)) * load(gate_up, i, K + k, lanes=LANES)


def _floats(K: int, act: Act) -> Any:
    @T.inline
    def row(gate_up, y, i):
        for c in T.serial(K // LANES):
            y[i, T.ramp(c * LANES, 1, LANES)] = _gated(gate_up, K, i, c * LANES, act)

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


def _codes(K: int, group: int, act: Act) -> Any:
    G, whole, part = -(-K // group), K // group, K % group // LANES
    round_group = quantize_group(group)

    @T.inline
    def one(gate_up, codes, scale, total, i, g, filled):
        with T.sblock("values"):
            T.reads()
            T.writes()
            values = T.sblock_alloc_buffer((group,), "float32")
            for c in T.unroll(filled):
                values[T.ramp(c * LANES, 1, LANES)] = _gated(gate_up, K, i, g * group + c * LANES, act)
            round_group(values, codes, scale, total, i, g, filled)

    @T.inline
    def row(gate_up, codes, scale, total, i):
        for g in T.serial(whole):
            one(gate_up, codes, scale, total, i, g, group // LANES)
        if part > 0:
            one(gate_up, codes, scale, total, i, whole, part)

    @T.prim_func(s_tir=True)
    def kernel(p_gate_up: T.handle, p_codes: T.handle, p_scale: T.handle, p_total: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        gate_up = T.match_buffer(p_gate_up, (n, 2 * K), "float32")
        codes = T.match_buffer(p_codes, (n, G * group), "int8")
        scale = T.match_buffer(p_scale, (n, G), "float32")
        total = T.match_buffer(p_total, (n, G), "int32")
        if n < SERIAL_ROWS:
            for i in T.serial(n):
                row(gate_up, codes, scale, total, i)
        else:
            for i in T.parallel(n):
                row(gate_up, codes, scale, total, i)

    return kernel
