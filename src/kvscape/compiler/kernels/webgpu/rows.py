"""Norms, gates and what else is done to rows (source/*.wgsl)."""

from typing import Any

from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.kernels.webgpu.host import Host, blocks
from kvscape.compiler.kernels.webgpu.text import text

THREADS = 256
GATES = ("swiglu", "geglu")


def rms_norm(op: Operator) -> Kernel:
    K, (eps,) = op.shape(0)[-1], op.constants
    return Kernel(f"rms_norm_{K}", lambda: rms_norm_function(K, eps), op.tensors)


def add_rms_norm(op: Operator) -> Kernel:
    K, (eps,) = op.shape(0)[-1], op.constants
    return Kernel(f"add_rms_norm_{K}", lambda: add_rms_norm_function(K, eps), op.tensors)


def gated(op: Operator) -> Kernel:
    K, name = op.shape(0)[-1] // 2, op.name
    return Kernel(f"{name}_{K}", lambda: gated_function(name, K), op.tensors)


def head_norm(op: Operator) -> Kernel:
    q_heads, heads, D, eps = op.constants
    return Kernel(f"head_norm_{D}", lambda: head_norm_function(q_heads, heads, D, eps), op.tensors)


def add_bias(op: Operator) -> Kernel:
    K = op.shape(0)[-1]
    return Kernel(
        f"add_bias_{K}", lambda: each_function(f"add_bias_{K}", K, "x[i] + bias[column]", ("bias",)), op.tensors
    )


def scale(op: Operator) -> Kernel:
    K, (factor,) = op.shape(0)[-1], op.constants
    return Kernel(f"scale_{K}", lambda: each_function(f"scale_{K}", K, f"x[i] * {factor!r}"), op.tensors)


def soft_cap(op: Operator) -> Kernel:
    K, (cap,) = op.shape(0)[-1], op.constants
    value = f"{cap!r} * hyperbolic_tangent(x[i] / {cap!r})"
    return Kernel(f"soft_cap_{K}", lambda: each_function(f"soft_cap_{K}", K, value), op.tensors)


def take_rows(op: Operator) -> Kernel:
    K = op.shape(0)[-1]
    return Kernel(f"take_rows_{K}", lambda: take_rows_function(K), op.tensors)


def rms_norm_function(K: int, eps: float) -> Any:
    """Arguments: x f32 [n, K], weight f32 [K]; y f32 [n, K]."""
    host = Host(f"rms_norm_{K}")
    bindings = [
        host.tensor("x", ("n", K), "float32").read("vec4<f32>"),
        host.tensor("weight", (K,), "float32").read("vec4<f32>"),
        host.tensor("y", ("n", K), "float32").write("vec4<f32>"),
    ]
    return host.function(host.launch(_norm_text(K, eps, "x[first + i]"), bindings, [], [host.size("n")]))


def add_rms_norm_function(K: int, eps: float) -> Any:
    """Arguments: x, residual f32 [n, K], weight f32 [K]; y and the sum f32 [n, K]."""
    host = Host(f"add_rms_norm_{K}")
    bindings = [
        *(host.tensor(name, ("n", K), "float32").read("vec4<f32>") for name in ("x", "residual")),
        host.tensor("weight", (K,), "float32").read("vec4<f32>"),
        *(host.tensor(name, ("n", K), "float32").write("vec4<f32>") for name in ("y", "total")),
    ]
    source = _norm_text(K, eps, "x[first + i] + residual[first + i]", "total[first + i] = value;")
    return host.function(host.launch(source, bindings, [], [host.size("n")]))


def _norm_text(K: int, eps: float, value: str, kept: str = "") -> str:
    """``value`` is what is normalized, ``kept`` what is done with it besides."""
    pieces = range(blocks(K // 4, THREADS))
    loaded = [f"var value{piece} = vec4(0.0);" for piece in pieces]
    stored = []
    for piece in pieces:
        there = f"{{ let i = thread + {THREADS * piece}u; if (i < K / 4u) {{"
        loaded.append(f"{there} let value = {value}; value{piece} = value; {kept} }} }}")
        stored.append(f"{there} y[first + i] = value{piece} * factor * weight[i]; }} }}")
    loaded += [f"squares += dot(value{piece}, value{piece});" for piece in pieces]
    return text("sum", "norm", K=K, EPS=eps, loaded="\n  ".join(loaded), stored="\n  ".join(stored))


def gated_function(name: str, K: int) -> Any:
    """Arguments: x f32 [n, 2 K], gates and what they let through; y f32 [n, K]."""
    host = Host(f"{name}_{K}")
    bindings = [
        host.tensor("x", ("n", 2 * K), "float32").read("f32"),
        host.tensor("y", ("n", K), "float32").write("f32"),
    ]
    source, grid = text("tanh", "gated", K=K, gate=name), [blocks(K, THREADS), host.size("n")]
    return host.function(host.launch(source, bindings, [], grid))


def head_norm_function(q_heads: int, heads: int, D: int, eps: float) -> Any:
    """Arguments: qkv f32 [n, (q_heads + 2 heads) D], weights of queries and of keys f32 [D]; y f32 as qkv."""
    host, width = Host(f"head_norm_{D}"), q_heads + 2 * heads
    bindings = [
        host.tensor("qkv", ("n", width * D), "float32").read("f32"),
        *(host.tensor(name, (D,), "float32").read("f32") for name in ("q_weight", "k_weight")),
        host.tensor("y", ("n", width * D), "float32").write("f32"),
    ]
    source = text("sum", "head_norm", Q_HEADS=q_heads, HEADS=heads, D=D, EPS=eps)
    return host.function(host.launch(source, bindings, [], [host.size("n"), width]))


def take_rows_function(K: int) -> Any:
    """Arguments: x f32 [n, K], rows int32 [r]; y f32 [r, K]."""
    host = Host(f"take_rows_{K}")
    bindings = [
        host.tensor("x", ("n", K), "float32").read("f32"),
        host.tensor("rows", ("r",), "int32").read("i32"),
        host.tensor("y", ("r", K), "float32").write("f32"),
    ]
    return host.function(host.launch(text("take_rows", K=K), bindings, [], [host.size("r")]))


def each_function(key: str, K: int, value: str, vectors: tuple[str, ...] = ()) -> Any:
    """Arguments: x f32 [n, K], vectors f32 [K]; y f32 [n, K]: the WGSL ``value`` of x[i] and vector[column]."""
    host = Host(key)
    bindings = [
        host.tensor("x", ("n", K), "float32").read("f32"),
        *(host.tensor(name, (K,), "float32").read("f32") for name in vectors),
        host.tensor("y", ("n", K), "float32").write("f32"),
    ]
    grid = [blocks(K, THREADS), host.size("n")]
    return host.function(host.launch(text("tanh", "each", K=K, value=value), bindings, [], grid))
