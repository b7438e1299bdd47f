"""Rows of the embedding table, taken from the packed weight that a tied output layer multiplies with."""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.element import element
from kvscape.quantization.format import Format


def float_embedding(rows: int, fmt: Format, N: int, K: int) -> Any:
    """Arguments: weight [N/rows, K, rows], token_ids int32 [n]; y f32 [n, K]."""
    dtype = f"float{fmt.bits}"

    @T.prim_func(s_tir=True)
    def kernel(p_weight: T.handle, p_ids: T.handle, p_y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        weight = T.match_buffer(p_weight, (N // rows, K, rows), dtype)
        ids = T.match_buffer(p_ids, (n,), "int32")
        y = T.match_buffer(p_y, (n, K), "float32")
        for i, k in T.grid(n, K):
            with T.sblock("take"):
                v_i, v_k = T.axis.remap("SS", [i, k])
                T.reads(ids[v_i])
                T.writes(y[v_i, v_k])
                y[v_i, v_k] = T.cast(weight[ids[v_i] // rows, v_k, ids[v_i] % rows], "float32")

    return kernel


def quantized_embedding(rows: int, fmt: Format, N: int, K: int) -> Any:
    """Arguments: codes u8, scales, token_ids int32 [n]; y f32 [n, K]."""
    groups = N * fmt.groups(K)

    @T.prim_func(s_tir=True)
    def kernel(p_codes: T.handle, p_scales: T.handle, p_ids: T.handle, p_y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        codes = T.match_buffer(p_codes, (groups * fmt.words_per_group * 4,), "uint8")
        scales = T.match_buffer(p_scales, (groups * len(fmt.constants),), fmt.scale_dtype)
        ids = T.match_buffer(p_ids, (n,), "int32")
        y = T.match_buffer(p_y, (n, K), "float32")
        for i, k in T.grid(n, K):
            with T.sblock("take"):
                v_i, v_k = T.axis.remap("SS", [i, k])
                T.reads(ids[v_i])
                T.writes(y[v_i, v_k])
                y[v_i, v_k] = element(fmt, rows, K, codes, scales, T.cast(ids[v_i], "int64"), v_k)

    return kernel


def take_rows(K: int) -> Any:
    """Arguments: x f32 [n, K], rows int32 [r]; y f32 [r, K]."""

    @T.prim_func(s_tir=True)
    def kernel(p_x: T.handle, p_rows: T.handle, p_y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        r = T.int64()
        x = T.match_buffer(p_x, (n, K), "float32")
        rows = T.match_buffer(p_rows, (r,), "int32")
        y = T.match_buffer(p_y, (r, K), "float32")
        for i, k in T.grid(r, K):
            with T.sblock("take"):
                v_i, v_k = T.axis.remap("SS", [i, k])
                T.reads(x[rows[v_i], v_k], rows[v_i])
                T.writes(y[v_i, v_k])
                y[v_i, v_k] = x[rows[v_i], v_k]

    return kernel
