"""Rotary positions, the step's keys and values, and what queries see of them.

The kernels are in source/{rope,spans,ranges,attention}.cuh.
"""

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from kvscape.analysis.memory import KEY_SCALE_BYTES, VALUE_SCALE_BYTES, code_bytes
from kvscape.compiler.kernels.cuda.host import Argument, Host, blocks, by_size
from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.config import KEY_GROUP, KVPrecision
from kvscape.errors import UnsupportedModelError
from kvscape.quantization.kv import rotation_size

# The C++ name of each precision of keys or values.
PRECISIONS = {"f32": "Floats", "f16": "Halves", "fp8": "Fp8", "int8": "Int8", "int4": "Int4"}
RANGE = 64  # RANGE_TOKENS: keys whose sums are made by themselves
WARPS = 4
ROWS = 16  # of a warp: tokens times query heads that share a key head
THREADS = 256
MOST_DIMENSIONS = 256
FEW, EACH = 16, 8  # more tokens than FEW have so many heads in a block: single ones make more blocks than start in time
PAGE_MULTIPLE = 8  # tokens: half a group of keys, and pages begin where 16 bytes may be read at once


def tile_tokens(group: int) -> int:
    """Tokens of a full tile, when ``group`` query heads share a key head."""
    return max(1, WARPS * ROWS // group)


@dataclass(frozen=True)
class Shape:
    """The constants of attention, as operators have them."""

    kv_dtype: str
    q_heads: int
    heads: int
    D: int
    rotary: int
    scale: float
    soft_cap: float

    @property
    def precision(self) -> KVPrecision:
        return KVPrecision.parse(self.kv_dtype)

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values in one layer."""
        key, value = self.precision.key, self.precision.value
        scales = KEY_SCALE_BYTES[key](self.D) + VALUE_SCALE_BYTES[value]
        return self.heads * (code_bytes(key, self.D) + code_bytes(value, self.D) + scales)

    @property
    def grouped(self) -> bool:
        """Whether keys are rounded in groups."""
        return self.precision.key_group > 1

    @property
    def turned(self) -> bool:
        """Whether a Hadamard matrix rotates keys or values, which takes all threads of a block."""
        return self.precision.key == "int8" or self.precision.value == "int4"

    @property
    def kept(self) -> str:
        """The C++ names of both precisions."""
        return f"{PRECISIONS[self.precision.key]}, {PRECISIONS[self.precision.value]}"

    @property
    def parts(self) -> int:
        """Warps that share the dimensions of a token's query heads, where those are few enough for one warp's rows."""
        most = {0: WARPS, 32: 2}[self.D % 64]
        return most if self.q_heads // self.heads <= ROWS else 1

    @property
    def sizes(self) -> list[Argument]:
        return [Argument("int", "q_heads", self.q_heads), Argument("int", "heads", self.heads)]


def rope_frequencies(op: Operator) -> Kernel:
    D, (length,) = 2 * op.shape(0)[0], op.constants
    return Kernel(f"rope_frequencies_{D}", lambda: rope_frequencies_function(D, length), op.tensors)


def rope_table(op: Operator) -> Kernel:
    D, (factor,) = 2 * op.shape(1)[0], op.constants
    name = f"rope_table_{D}" if factor == 1 else f"rope_table_{D}_scaled"
    return Kernel(name, lambda: rope_table_function(name, D, factor), op.tensors)


def rope_append(op: Operator) -> Kernel:
    layer, shape = _shape(op)
    name = f"rope_append_{shape.precision.identifier}"
    return Kernel(name, lambda: rope_append_function(shape, name), (*op.tensors, layer), inplace=(-1, -1, 4))


def group_append(op: Operator) -> Kernel:
    layer, shape = _shape(op)
    name = f"group_append_{shape.precision.identifier}"
    return Kernel(name, lambda: group_append_function(shape, name), (*op.tensors, layer), inplace=(-1, 5, 6))


def paged_attention(op: Operator) -> Kernel:
    layer, shape = _shape(op)
    dtype, tiles = op.result_dtype, op.shape(4)[0]
    scratch = ((tiles * (shape.q_heads * (shape.D + 2)),), "float32")
    name = f"paged_attention_{shape.precision.identifier}"
    return Kernel(name, lambda: paged_attention_function(shape, dtype, name), (*op.tensors, layer), scratch=(scratch,))


def _shape(op: Operator) -> tuple[int, Shape]:
    layer, *constants = op.constants
    return layer, checked(Shape(*constants))


def checked(shape: Shape) -> Shape:
    """The shape; raise UnsupportedModelError for one that does not fit into a block of threads."""
    group, do = shape.q_heads // shape.heads, "use --device cpu"
    if shape.D > MOST_DIMENSIONS:
        raise UnsupportedModelError(f"head_dim = {shape.D}", f"the CUDA kernels take up to {MOST_DIMENSIONS}", do)
    if group > WARPS * ROWS:
        why = f"the CUDA kernels take up to {WARPS * ROWS}"
        raise UnsupportedModelError(f"{group} query heads that share a key head", why, do)
    return shape


def rope_frequencies_function(D: int, length: int) -> Any:
    """Arguments: inverse frequencies f32 [D/2] for up to ``length`` tokens, and for more; seen int32 [1]; y."""
    host, half = Host(f"rope_frequencies_{D}"), D // 2
    few, many = (host.tensor(name, (half,), "float32") for name in ("few", "many"))
    arguments = [few, many, host.tensor("seen", (1,), "int32"), host.tensor("frequency", (half,), "float32")]
    arguments += [Argument("int", "half", half), Argument("int", "length", length)]
    call = "rope_frequencies(few, many, seen, frequency, half, length)"
    return host.function(host.launch(call, arguments, [1], THREADS))


def rope_table_function(name: str, D: int, factor: float) -> Any:
    """Arguments: positions int32 [n], inverse frequencies f32 [D/2]; table f32 [n, D]: cosines, then sines."""
    host, half = Host(name), D // 2
    positions, frequency = host.tensor("positions", ("n",), "int32"), host.tensor("frequency", (half,), "float32")
    n, table = host.size("n"), host.tensor("table", ("n", D), "float32")
    arguments = [positions, frequency, table, Argument("int", "n", n), Argument("int", "half", half)]
    call = "rope_table(positions, frequency, table, n, half, factor)"
    grid = [blocks(n * half, THREADS)]
    return host.function(host.launch(call, [*arguments, Argument("float", "factor", factor)], grid, THREADS))


def rope_append_function(shape: Shape, name: str) -> Any:
    """Arguments as the CPU's kernel has them: qkv, two tables, slots, the pool, the layer; two kinds of queries."""
    D, width = shape.D, shape.q_heads + 2 * shape.heads
    host = Host(name)
    arguments = [
        host.tensor("qkv", ("n", width * D), "float32"),
        *(host.tensor(name, ("n", shape.rotary), "float32") for name in ("table", "sink_table")),
        host.tensor("slots", ("n",), "int32"),
    ]
    pool = host.tensor("pool", ("layers", "pages", "page_bytes"), "uint8")
    skip, page = _place(host, shape, host.number("layer"))
    arguments += [pool, *(host.tensor(name, ("n", shape.q_heads * D), "float32") for name in ("q", "sink_q"))]
    arguments += [skip, *page, Argument("int", "rotary", shape.rotary), *shape.sizes]

    def append(each: int) -> Any:
        call = (
            f"rope_append<{shape.kept}, {D}, {rotation_size(D)}, {each}>(qkv, table, sink_table, slots, pool + skip, "
            f"q, sink_q, q_heads, heads, rotary, page_size, page_bytes)"
        )
        return host.launch(call, arguments, [host.size("n"), -(-width // each)], D)

    return host.function(append(1) if shape.turned else by_size(host.size("n"), [(FEW, append(1))], append(EACH)))


def group_append_function(shape: Shape, name: str) -> Any:
    """Arguments as the CPU's kernel has them, but ``own`` f32 [groups, heads, 16 D] is [token][dimension] here, as the
    tails are."""
    H, D = shape.heads, shape.D
    host = Host(name)
    arguments = [
        host.tensor("qkv", ("n", (shape.q_heads + 2 * H) * D), "float32"),
        host.tensor("table", ("n", shape.rotary), "float32"),
        host.tensor("positions", ("n",), "int32"),
        host.tensor("sequences", ("s", 4), "int32"),
        host.tensor("tables", ("s", "w"), "int32"),
        host.tensor("pool", ("layers", "pages", "page_bytes"), "uint8"),
    ]
    tails = host.tensor("tails", ("layers", "tails", H * D * KEY_GROUP), "float16")
    layer = host.number("layer")
    skip, page = _place(host, shape, layer)
    own = host.tensor("own", ("groups", H, D * KEY_GROUP), "float32")
    skip_tails = Argument("i64", "skip_tails", layer * host.size("tails") * (H * D * KEY_GROUP))
    arguments += [tails, own, skip, skip_tails, *page, *shape.sizes, Argument("int", "rotary", shape.rotary)]
    arguments += [Argument("int", "count", host.size("s")), Argument("int", "width", host.size("w"))]
    call = (
        f"group_append<{shape.kept}, {D}>(qkv, table, positions, sequences, tables, pool + skip, tails + skip_tails, "
        f"own, count, width, q_heads, heads, rotary, page_size, page_bytes)"
    )
    return host.function(host.launch(call, arguments, [host.size("groups"), H], D))


def paged_attention_function(shape: Shape, dtype: str, key: str) -> Any:
    """Arguments as the CPU's kernel has them, and sums of single ranges f32 [tiles q_heads (D + 2)] at the end."""
    D, kept = shape.D, f"{shape.kept}, {shape.D}, {rotation_size(shape.D)}"
    host = Host(key)
    queries = [host.tensor(name, ("n", shape.q_heads * D), "float32") for name in ("q", "sink_q")]
    handle = host.tensor("pool", ("layers", "pages", "page_bytes"), "uint8")
    tables, tiles = host.tensor("tables", ("s", "w"), "int32"), host.tensor("tiles", ("t", 5), "int32")
    pieces, positions = host.tensor("pieces", ("m",), "int32"), host.tensor("positions", ("n",), "int32")
    window = host.tensor("window", (2,), "int32")
    own = [host.tensor("own", ("groups", shape.heads, D * KEY_GROUP), "float32")] if shape.grouped else []
    skip, page = _place(host, shape, host.number("layer"))
    y = host.tensor("y", ("n", shape.q_heads * D), dtype)
    ranges = host.tensor("ranges", ("found",), "float32")
    numbers = [*shape.sizes, *page, Argument("int", "width", host.size("w"))]
    numbers += [Argument("float", "scale", shape.scale), Argument("float", "soft_cap", shape.soft_cap)]
    arguments = [*queries, handle, skip, tables, tiles, positions, window, *own, y, ranges, *numbers]

    def attend(split: str, parts: int) -> Any:
        shared_bytes = 0 if split == "true" else 2 * span_bytes(D)
        call = (
            f'static_assert(2 * sizeof(Span<{D}>) == {2 * span_bytes(D)}, "two spans"); '
            f"paged_attention<{kept}, {split}, {parts}>(q, sink_q, pool + skip, tables, tiles, positions, window, "
            f"{'own' if own else 'nullptr'}, y, ranges, q_heads, heads, page_size, page_bytes, width, scale, soft_cap)"
        )
        together = 4 if parts == WARPS else 1
        return host.launch(call, arguments, [host.size("t"), shape.heads], 32 * WARPS, shared_bytes, together)

    whole, split = attend("false", 1), attend("true", shape.parts)
    call = f"join_ranges<{PRECISIONS[shape.precision.value]}, {D}, {rotation_size(D)}>(ranges, pieces, y)"
    join = host.launch(call, [ranges, pieces, y], [host.size("n"), shape.q_heads], D)
    return host.function(tirx.IfThenElse(host.size("m") > 0, tirx.SeqStmt([split, join]), whole))


def span_bytes(D: int) -> int:
    """Of keys and values in shared memory, as struct Span has them: padded rows, and where each lies in memory."""
    keys, pieces = 64 if D <= 128 else 32, D // 8
    key_pieces, value_pieces = pieces + (4 if pieces % 8 == 0 else 0), pieces + 1
    return keys * (16 * (key_pieces + value_pieces) + 20)


def _place(host: Host, shape: Shape, layer: Any) -> tuple[Argument, list[Argument]]:
    """Bytes before the layer's pages; tokens and bytes of a page."""
    page_bytes = host.size("page_bytes")
    skip = Argument("i64", "skip", layer * host.size("pages") * page_bytes)
    page_size = tirx.floordiv(page_bytes, shape.token_bytes)
    return skip, [Argument("int", "page_size", page_size), Argument("i64", "page_bytes", page_bytes)]
