"""Norms, gates and what else is done to rows (source/rows.cuh)."""

from typing import Any

from kvscape.compiler.kernels.cuda.host import Argument, Host, blocks
from kvscape.compiler.kernels.kernel import Kernel, Operator

THREADS = 256
NORM_THREADS = 1024
GATES = {"swiglu": "Silu", "geglu": "Gelu"}


def rms_norm(op: Operator) -> Kernel:
    K, (eps,), dtype = op.shape(0)[-1], op.constants, op.result_dtype
    return Kernel(f"rms_norm_{K}_{dtype}", lambda: rms_norm_function(K, eps, dtype), op.tensors)


def add_rms_norm(op: Operator) -> Kernel:
    K, (eps,), dtype = op.shape(0)[-1], op.constants, op.result_dtype
    return Kernel(f"add_rms_norm_{K}_{dtype}", lambda: add_rms_norm_function(K, eps, dtype), op.tensors)


def gated(op: Operator) -> Kernel:
    K, name, dtype = op.shape(0)[-1] // 2, op.name, op.result_dtype
    return Kernel(f"{name}_{K}_{dtype}", lambda: gated_function(name, K, dtype), op.tensors)


def head_norm(op: Operator) -> Kernel:
    q_heads, heads, D, eps = op.constants
    return Kernel(f"head_norm_{D}", lambda: head_norm_function(q_heads, heads, D, eps), op.tensors)


def add_bias(op: Operator) -> Kernel:
    K = op.shape(0)[-1]
    return Kernel(f"add_bias_{K}", lambda: add_bias_function(K), op.tensors)


def scale(op: Operator) -> Kernel:
    K, (factor,) = op.shape(0)[-1], op.constants
    return Kernel(f"scale_{K}", lambda: _each("scale", K, factor), op.tensors)


def soft_cap(op: Operator) -> Kernel:
    K, (cap,) = op.shape(0)[-1], op.constants
    return Kernel(f"soft_cap_{K}", lambda: _each("soft_cap", K, cap), op.tensors)


def take_rows(op: Operator) -> Kernel:
    K = op.shape(0)[-1]
    return Kernel(f"take_rows_{K}", lambda: take_rows_function(K), op.tensors)


def rms_norm_function(K: int, eps: float, dtype: str) -> Any:
    """Arguments: x f32 [n, K], weight f32 [K]; y [n, K]."""
    host = Host(f"rms_norm_{K}_{dtype}")
    x, weight = host.tensor("x", ("n", K), "float32"), host.tensor("weight", (K,), "float32")
    arguments = [x, weight, host.tensor("y", ("n", K), dtype), Argument("int", "K", K), Argument("float", "eps", eps)]
    return host.function(host.launch("rms_norm(x, weight, y, K, eps)", arguments, [host.size("n")], NORM_THREADS))


def add_rms_norm_function(K: int, eps: float, dtype: str) -> Any:
    """Arguments: x, residual f32 [n, K], weight f32 [K]; y [n, K], and the sum f32 [n, K]."""
    host = Host(f"add_rms_norm_{K}_{dtype}")
    arguments = [
        *(host.tensor(name, ("n", K), "float32") for name in ("x", "residual")),
        host.tensor("weight", (K,), "float32"),
        host.tensor("y", ("n", K), dtype),
        host.tensor("sum", ("n", K), "float32"),
        Argument("int", "K", K),
        Argument("float", "eps", eps),
    ]
    call = "add_rms_norm(x, residual, weight, y, sum, K, eps)"
    return host.function(host.launch(call, arguments, [host.size("n")], NORM_THREADS))


def gated_function(name: str, K: int, dtype: str) -> Any:
    """Arguments: x f32 [n, 2 K], gates and what they let through; y [n, K]."""
    host = Host(f"{name}_{K}_{dtype}")
    x, y = host.tensor("x", ("n", 2 * K), "float32"), host.tensor("y", ("n", K), dtype)
    arguments = [x, y, *_length(host, K)]
    call = f"gated<{GATES[name]}>(x, y, total, K)"
    return host.function(host.launch(call, arguments, [blocks(host.size("n") * K, THREADS)], THREADS))


def head_norm_function(q_heads: int, heads: int, D: int, eps: float) -> Any:
    """Arguments: qkv f32 [n, (q_heads + 2 heads) D], weights of queries and of keys f32 [D]; y f32 as qkv."""
    host, width = Host(f"head_norm_{D}"), (q_heads + 2 * heads) * D
    arguments = [
        host.tensor("qkv", ("n", width), "float32"),
        *(host.tensor(name, (D,), "float32") for name in ("q_weight", "k_weight")),
        host.tensor("y", ("n", width), "float32"),
        *(Argument("int", name, value) for name, value in (("q_heads", q_heads), ("heads", heads), ("D", D))),
        Argument("float", "eps", eps),
    ]
    call = "head_norm(qkv, q_weight, k_weight, y, q_heads, heads, D, eps)"
    return host.function(host.launch(call, arguments, [host.size("n")], THREADS))


def add_bias_function(K: int) -> Any:
    """Arguments: x f32 [n, K], bias f32 [K]; y f32 [n, K]."""
    host = Host(f"add_bias_{K}")
    x, bias = host.tensor("x", ("n", K), "float32"), host.tensor("bias", (K,), "float32")
    arguments = [x, bias, host.tensor("y", ("n", K), "float32"), *_length(host, K)]
    grid = [blocks(host.size("n") * K, THREADS)]
    return host.function(host.launch("add_bias(x, bias, y, total, K)", arguments, grid, THREADS))


def take_rows_function(K: int) -> Any:
    """Arguments: x f32 [n, K], rows int32 [r]; y f32 [r, K]."""
    host = Host(f"take_rows_{K}")
    x, rows = host.tensor("x", ("n", K), "float32"), host.tensor("rows", ("r",), "int32")
    arguments = [x, rows, host.tensor("y", ("r", K), "float32"), Argument("int", "K", K)]
    return host.function(host.launch("take_rows(x, rows, y, K)", arguments, [host.size("r")], THREADS))


def _each(name: str, K: int, number: float) -> Any:
    """Arguments: x f32 [n, K]; y f32 [n, K]."""
    host = Host(f"{name}_{K}")
    x, y = host.tensor("x", ("n", K), "float32"), host.tensor("y", ("n", K), "float32")
    arguments = [x, y, _length(host, K)[0], Argument("float", "number", number)]
    grid = [blocks(host.size("n") * K, THREADS)]
    return host.function(host.launch(f"{name}(x, y, total, number)", arguments, grid, THREADS))


def _length(host: Host, K: int) -> list[Argument]:
    return [Argument("i64", "total", host.size("n") * K), Argument("int", "K", K)]
