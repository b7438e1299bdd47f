"""Rotary positions, and the step's keys and values (source/rope_*.wgsl)."""

from typing import Any

from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.kernels.webgpu.host import Host
from kvscape.compiler.kernels.webgpu.pages import Shape, layer_pages, shape_of
from kvscape.compiler.kernels.webgpu.text import text
from kvscape.quantization.kv import rotation_size


def rope_frequencies(op: Operator) -> Kernel:
    D, (length,) = 2 * op.shape(0)[0], op.constants
    return Kernel(f"rope_frequencies_{D}", lambda: rope_frequencies_function(D, length), op.tensors)


def rope_table(op: Operator) -> Kernel:
    D, (factor,) = 2 * op.shape(1)[0], op.constants
    name = f"rope_table_{D}" if factor == 1 else f"rope_table_{D}_scaled"
    return Kernel(name, lambda: rope_table_function(name, D, factor), op.tensors)


def rope_append(op: Operator) -> Kernel:
    layer, shape = shape_of(op)
    name = f"rope_append_{shape.kv_dtype}"
    return Kernel(name, lambda: rope_append_function(shape, name), (*op.tensors, layer), inplace=(-1, -1, 4))


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
    D, width, pages = shape.D, shape.q_heads + 2 * shape.heads, shape.pages
    host = Host(name)
    bindings = [
        host.tensor("qkv", ("n", width * D), "float32").read("f32"),
        *(host.tensor(name, ("n", shape.rotary), "float32").read("f32") for name in ("table", "sink_table")),
        host.tensor("slots", ("n",), "int32").read("i32"),
    ]
    pool, numbers = layer_pages(host, shape, host.tensor("pool", ("layers", "pages", "page_bytes"), "uint8"))
    bindings.append(pool.write("u32"))
    bindings += [host.tensor(name, ("n", shape.q_heads * D), "float32").write("f32") for name in ("q", "sink_q")]
    turned = rotation_size(D) if pages.scaled else 1
    constants = {**shape.constants, "ROTARY": shape.rotary, "TURNED": turned, "SCALED": int(pages.scaled)}
    source = text("pages", "rope_append", keep=pages.keep, **constants)
    return host.function(host.launch(source, bindings, numbers, [host.size("n"), shape.q_heads + shape.heads]))
