"""Rotary positions, and the step's keys and values (source/rope_*.wgsl, group_append.wgsl)."""

from typing import Any

from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.kernels.webgpu.host import Host
from kvscape.compiler.kernels.webgpu.pages import Shape, layer_pages, layer_tails, shape_of
from kvscape.compiler.kernels.webgpu.text import text
from kvscape.config import KEY_GROUP


def rope_frequencies(op: Operator) -> Kernel:
    D, (length,) = 2 * op.shape(0)[0], op.constants
    return Kernel(f"rope_frequencies_{D}", lambda: rope_frequencies_function(D, length), op.tensors)


def rope_table(op: Operator) -> Kernel:
    D, (factor,) = 2 * op.shape(1)[0], op.constants
    name = f"rope_table_{D}" if factor == 1 else f"rope_table_{D}_scaled"
    return Kernel(name, lambda: rope_table_function(name, D, factor), op.tensors)


def rope_append(op: Operator) -> Kernel:
    layer, shape = shape_of(op)
    name = f"rope_append_{shape.precision.identifier}"
    return Kernel(name, lambda: rope_append_function(shape, name), (*op.tensors, layer), inplace=(-1, -1, 4))


def group_append(op: Operator) -> Kernel:
    layer, shape = shape_of(op)
    name = f"group_append_{shape.precision.identifier}"
    return Kernel(name, lambda: group_append_function(shape, name), (*op.tensors, layer), inplace=(-1, 5, 6))


def rope_frequencies_function(D: int, length: int) -> Any:
    """Arguments: inverse frequencies f32 [D/2] for up to ``length`` tokens, and for more; seen int32 [1]; y."""
    host, half = Host(f"rope_frequencies_{D}"), D // 2
    bindings = [host.tensor(name, (half,), "float32").read("f32") for name in ("few", "many")]
    bindings += [
        host.tensor("seen", (1,), "int32").read("i32"),
        host.tensor("frequency", (half,), "float32").write("f32"),
    ]
    return host.function(host.launch(text("rope_frequencies", HALF=half, LENGTH=length), bindings, [], [1]))


def rope_table_function(name: str, D: int, factor: float) -> Any:
    """Arguments: positions int32 [n], inverse frequencies f32 [D/2]; table f32 [n, D]: cosines, then sines."""
    host, half = Host(name), D // 2
    bindings = [
        host.tensor("positions", ("n",), "int32").read("i32"),
        host.tensor("frequency", (half,), "float32").read("f32"),
        host.tensor("table", ("n", D), "float32").write("f32"),
    ]
    return host.function(host.launch(text("rope_table", HALF=half, FACTOR=factor), bindings, [], [host.size("n")]))


def rope_append_function(shape: Shape, name: str) -> Any:
    """Arguments as the CPU's kernel has them: qkv, two tables, slots, the pool, the layer; two kinds of queries."""
    D, width = shape.D, shape.q_heads + 2 * shape.heads
    host = Host(name)
    bindings = [
        host.tensor("qkv", ("n", width * D), "float32").read("f32"),
        *(host.tensor(name, ("n", shape.rotary), "float32").read("f32") for name in ("table", "sink_table")),
        host.tensor("slots", ("n",), "int32").read("i32"),
    ]
    pool = host.tensor("pool", ("layers", "pages", "page_bytes"), "uint8")
    pool, numbers = layer_pages(host, shape, pool, host.number("layer"))
    bindings.append(shape.written(pool))
    bindings += [host.tensor(name, ("n", shape.q_heads * D), "float32").write("f32") for name in ("q", "sink_q")]
    query, sink_query = (_turned(shape.precision.key == "int8", f"turned(x, group.x, d, {sink})") for sink in _SINK)
    texts = {"query": query, "sink_query": sink_query, "kept": _kept(shape, query)}
    source = text("pages", "rope_append", **shape.constants, **shape.places, **texts, ROTARY=shape.rotary)
    whole = "\n".join([shape.turning, shape.keeping, source])
    return host.function(host.launch(whole, bindings, numbers, [host.size("n"), shape.q_heads + shape.heads]))


_SINK = ("false", "true")


def _turned(turns: bool, number: str) -> str:
    return f"hadamard({number}, d)" if turns else number


def _kept(shape: Shape, key: str) -> str:
    """A head's key and value written, but for keys that wait for their group."""
    keys, values = shape.precision.key, shape.precision.value
    value = _turned(shape.values_turned, "qkv[x + HEADS * D + d]")
    lines = [] if shape.grouped else [f"let key = keep_{keys}({key}, place.x, d);"]
    lines.append(f"let value = keep_{values}({value}, place.y, d);")
    scales = []
    if keys == values == "int8":
        scales = ["put(place.z, halves(key.x, value.x));"]
    elif keys == "int8":
        scales = ["put_half(place.z, key.x);"]
    elif values == "int8":
        scales = ["put_half(place.w, value.x);"]
    if values == "int4":
        scales.append("put(place.w, halves(value.x, value.y));")
    return "\n  ".join([*lines, f"if (d == 0u) {{ {' '.join(scales)} }}" if scales else ""])


def group_append_function(shape: Shape, name: str) -> Any:
    """Arguments as the CPU's kernel has them, but ``own`` f32 [groups, heads, 16 D] is [token][dimension] here, and the
    tails are [token / 2][dimension][token % 2]."""
    heads, D = shape.heads, shape.D
    host = Host(name)
    bindings = [
        host.tensor("qkv", ("n", (shape.q_heads + 2 * heads) * D), "float32").read("f32"),
        host.tensor("table", ("n", shape.rotary), "float32").read("f32"),
        host.tensor("positions", ("n",), "int32").read("i32"),
        host.tensor("sequences", ("s", 4), "int32").read("i32"),
        host.tensor("tables", ("s", "w"), "int32").read("i32"),
    ]
    pool = host.tensor("pool", ("layers", "pages", "page_bytes"), "uint8")
    tails = host.tensor("tails", ("layers", "tails", heads * D * KEY_GROUP), "float16")
    layer = host.number("layer")
    pool, numbers = layer_pages(host, shape, pool, layer)
    bindings += [shape.written(pool), layer_tails(host, shape, tails, layer).write("u32")]
    bindings.append(host.tensor("own", ("groups", heads, D * KEY_GROUP), "float32").write("f32"))
    numbers += [("sequences", host.size("s")), ("width", host.size("w"))]
    source = text("pages", "group_append", **shape.constants, **shape.places, ROTARY=shape.rotary)
    whole = "\n".join([shape.turning, shape.keeping, source])
    return host.function(host.launch(whole, bindings, numbers, [host.size("groups"), heads]))
