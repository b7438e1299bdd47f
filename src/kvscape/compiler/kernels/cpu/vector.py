"""Vector expressions for hand-written CPU kernels: loads, stores, fused multiply-add, exponential."""

from typing import Any

from tvm.script import tirx as T

Expr = Any  # TVM's expressions are untyped for mypy

# Fewer rows than this run on the calling thread: waking the others costs more than it saves.
SERIAL_ROWS = 4


def load(buffer: Any, *index: Any, lanes: int) -> Expr:
    """``lanes`` consecutive elements, starting at ``index``."""
    return buffer[(*index[:-1], T.ramp(index[-1], 1, lanes))]


def prefetch(buffer: Any, *index: Any) -> Expr:
    """Ask for the cache line of an element that will be read soon; it may lie outside."""
    address = T.address_of(buffer[index])
    return T.call_llvm_intrin("void", "llvm.prefetch", address, T.int32(0), T.int32(3), T.int32(1))


def splat(value: Any, lanes: int) -> Expr:
    return T.broadcast(value, lanes)


def fma(a: Expr, b: Expr, c: Expr, lanes: int) -> Expr:
    """a x b + c with one rounding, on every target: sums must not depend on the shape of the loop around them."""
    return T.call_llvm_pure_intrin(f"float32x{lanes}", "llvm.fma", a, b, c)


def to_float(value: Expr, lanes: int) -> Expr:
    return T.cast(value, f"float32x{lanes}")


def maximum(a: Expr, b: Expr, lanes: int) -> Expr:
    return T.call_llvm_pure_intrin(f"float32x{lanes}", "llvm.maxnum", a, b)


def reduce_max(value: Expr, lanes: int) -> Expr:
    return T.call_llvm_pure_intrin("float32", "llvm.vector.reduce.fmax", value)


def reduce_add(value: Expr, lanes: int) -> Expr:
    """Sum of the lanes in a fixed order: halves are added until one lane is left."""
    while lanes > 1:
        lanes //= 2
        value = _half(value, lanes, 0) + _half(value, lanes, lanes)
    return value


def _half(value: Expr, lanes: int, first: int) -> Expr:
    return T.Shuffle([value], [T.int32(first + i) for i in range(lanes)])


def round_even(value: Expr, lanes: int) -> Expr:
    return T.call_llvm_pure_intrin(f"float32x{lanes}", "llvm.nearbyint", value)


# Cephes' single-precision exponential: exp(x) = 2^n exp(r), |r| <= ln(2)/2, relative error below 2e-7.
_LOG2E = 1.44269504088896341
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_SERIES = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


def exp(x: Expr, lanes: int) -> Expr:
    """Exponential of x, for x in [-87, 88]; smaller x count as -87, which is a factor of 1.6e-38."""

    def constant(value: float) -> Expr:
        return splat(T.float32(value), lanes)

    x = T.call_llvm_pure_intrin(f"float32x{lanes}", "llvm.minnum", maximum(x, constant(-87.0), lanes), constant(88.0))
    n = round_even(x * constant(_LOG2E), lanes)
    r = fma(n, constant(-_LN2_LOW), fma(n, constant(-_LN2_HIGH), x, lanes), lanes)
    series = constant(_SERIES[0])
    for coefficient in _SERIES[1:]:
        series = fma(series, r, constant(coefficient), lanes)
    value = fma(series, r * r, r + constant(1.0), lanes)
    exponent = T.shift_left(T.cast(n, f"int32x{lanes}") + splat(T.int32(127), lanes), splat(T.int32(23), lanes))
    return value * T.reinterpret(f"float32x{lanes}", exponent)


def tanh(x: Expr, lanes: int) -> Expr:
    """Hyperbolic tangent, absolute error below 3e-7."""
    one = splat(T.float32(1), lanes)
    return one - splat(T.float32(2), lanes) / (exp(x + x, lanes) + one)


def soft_capped(x: Expr, cap: float, lanes: int) -> Expr:
    """x where it is small, never beyond ``cap``."""
    return tanh(x * splat(T.float32(1 / cap), lanes), lanes) * splat(T.float32(cap), lanes)
