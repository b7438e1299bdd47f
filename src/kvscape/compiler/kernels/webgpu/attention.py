"""Rotary positions, the step's keys and values, and what queries see of them (source/rope_*.wgsl, attention.wgsl)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tvm import tirx

from kvscape.analysis.memory import KEY_SCALE_BYTES, VALUE_SCALE_BYTES, code_bytes
from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.kernels.webgpu.host import Host, Tensor, blocks
from kvscape.compiler.kernels.webgpu.text import text
from kvscape.quantization.kv import rotation_size

RANGE = 64  # keys whose sums are made by themselves
ROWS = 16  # of a tile: tokens times query heads that share a key head
THREADS = 256
LOG2_E = 1.4426950408889634
LOWEST = -1.0e30

_BYTES = "vec4<f32>(bitcast<vec4<i32>>(vec4({}) << vec4(24u, 16u, 8u, 0u)) >> vec4(24u))"
_HALF_KEEP = """workgroupBarrier();
  row[d] = value;
  workgroupBarrier();
  if (d < WORDS) {
    pool[first + d] = halves(row[2u * d], row[2u * d + 1u]);
  }
  return 0.0;"""
_BYTE_KEEP = """workgroupBarrier();
  row[d] = value;
  workgroupBarrier();
  var largest = 0.0;
  for (var i = 0u; i < D; i += 1u) {
    largest = max(largest, abs(row[i]));
  }
  let step = unpack2x16float(halves(largest / 127.0, 0.0)).x;
  if (d < WORDS) {
    var word = 0u;
    for (var i = 0u; i < 4u; i += 1u) {
      let ratio = select(row[4u * d + i] / step, 0.0, step == 0.0);
      word |= (u32(i32(clamp(round(ratio), -127.0, 127.0))) & 255u) << (8u * i);
    }
    pool[first + d] = word;
  }
  return step;"""


@dataclass(frozen=True)
class Pages:
    """How a precision lies in words of 32 bits: numbers of a word, and the texts that write and read them."""

    numbers: int
    keep: str
    four: str
    numbers_of: str
    scaled: bool = False

    @property
    def vector(self) -> str:
        return "f32" if self.numbers == 1 else f"vec{self.numbers}<f32>"


PAGES: Mapping[str, Pages] = MappingProxyType(
    {
        "f32": Pages(
            1,
            "pool[first + d] = bitcast<u32>(value);\n  return 0.0;",
            "return bitcast<vec4<f32>>(raw);",
            "return bitcast<f32>(word);",
        ),
        "f16": Pages(
            2,
            _HALF_KEEP,
            "let pair = select(raw.xy, raw.zw, i == 1u);\n"
            "  return vec4(unpack2x16float(pair.x), unpack2x16float(pair.y));",
            "return unpack2x16float(word);",
        ),
        "int8": Pages(
            4, _BYTE_KEEP, f"return {_BYTES.format('raw[i]')};", f"return {_BYTES.format('word')};", scaled=True
        ),
    }
)


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
    def pages(self) -> Pages:
        return PAGES[self.kv_dtype]

    @property
    def words(self) -> int:
        """Words of a head's key or value."""
        return self.D // self.pages.numbers

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values in one layer."""
        codes = 2 * code_bytes(self.kv_dtype, self.D)
        return self.heads * (codes + KEY_SCALE_BYTES[self.kv_dtype](self.D) + VALUE_SCALE_BYTES[self.kv_dtype])

    @property
    def constants(self) -> dict[str, Any]:
        return {"Q_HEADS": self.q_heads, "HEADS": self.heads, "D": self.D, "WORDS": self.words}


def tile_tokens(group: int) -> int:
    """Tokens of a full tile, when ``group`` query heads share a key head."""
    return max(1, ROWS // group)


def rope_frequencies(op: Operator) -> Kernel:
    D, (length,) = 2 * op.shape(0)[0], op.constants
    return Kernel(f"rope_frequencies_{D}", lambda: rope_frequencies_function(D, length), op.tensors)


def rope_table(op: Operator) -> Kernel:
    D, (factor,) = 2 * op.shape(1)[0], op.constants
    name = f"rope_table_{D}" if factor == 1 else f"rope_table_{D}_scaled"
    return Kernel(name, lambda: rope_table_function(name, D, factor), op.tensors)


def rope_append(op: Operator) -> Kernel:
    layer, shape = _shape(op)
    name = f"rope_append_{shape.kv_dtype}"
    return Kernel(name, lambda: rope_append_function(shape, name), (*op.tensors, layer), inplace=(-1, -1, 4))


def paged_attention(op: Operator) -> Kernel:
    layer, shape = _shape(op)
    tiles, name = op.shape(4)[0], f"paged_attention_{shape.kv_dtype}"
    scratch = ((tiles * (shape.q_heads * (shape.D + 2)),), "float32")
    return Kernel(name, lambda: paged_attention_function(shape, name), (*op.tensors, layer), scratch=(scratch,))


def _shape(op: Operator) -> tuple[int, Shape]:
    layer, *constants = op.constants
    return layer, Shape(*constants)


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
    pool, numbers = _pool(host, shape)
    bindings.append(pool.write("u32"))
    bindings += [host.tensor(name, ("n", shape.q_heads * D), "float32").write("f32") for name in ("q", "sink_q")]
    turned = rotation_size(D) if pages.scaled else 1
    constants = {**shape.constants, "ROTARY": shape.rotary, "TURNED": turned, "SCALED": int(pages.scaled)}
    source = text("pages", "rope_append", keep=pages.keep, **constants)
    return host.function(host.launch(source, bindings, numbers, [host.size("n"), shape.q_heads + shape.heads]))


def paged_attention_function(shape: Shape, name: str) -> Any:
    """Arguments as the CPU's kernel has them, and sums of single ranges f32 [tiles q_heads (D + 2)] at the end."""
    D = shape.D
    host = Host(name)
    queries = [host.tensor(name, ("n", shape.q_heads * D), "float32").read("vec4<f32>") for name in ("q", "sink_q")]
    pool = host.tensor("pool", ("layers", "pages", "page_bytes"), "uint8")
    tables, tiles = host.tensor("tables", ("s", "w"), "int32"), host.tensor("tiles", ("t", 5), "int32")
    pieces, positions = host.tensor("pieces", ("m",), "int32"), host.tensor("positions", ("n",), "int32")
    window = host.tensor("window", (2,), "int32")
    place, numbers = _place(host, shape, pool)
    y = host.tensor("y", ("n", shape.q_heads * D), "float32")
    ranges = host.tensor("ranges", ("found",), "float32")
    seen = [each.read("i32") for each in (tables, tiles, positions, window)]
    numbers = [*numbers, ("width", host.size("w"))]

    def attend(split: bool) -> Any:
        bindings = [*queries, place.read("vec4<u32>"), *seen, (ranges if split else y).write("f32")]
        return host.launch(_attention_text(shape, split), bindings, numbers, [host.size("t"), shape.heads])

    joins = [ranges.read("f32"), pieces.read("i32"), y.write("f32")]
    source = text("join_ranges", Q_HEADS=shape.q_heads, D=D, LOWEST=LOWEST)
    join = host.launch(source, joins, [], [host.size("n"), shape.q_heads])
    split = tirx.SeqStmt([attend(True), join])
    return host.function(tirx.IfThenElse(host.size("m") > 0, split, attend(False)))


def _attention_text(shape: Shape, split: bool) -> str:
    group, pages = shape.q_heads // shape.heads, shape.pages
    rows = group if split else group * tile_tokens(group)
    of_thread = blocks(rows, THREADS // shape.words)
    texts = {name: "\n".join(lines) for name, lines in _row_texts(pages, of_thread, split).items()}
    ranges = {"first_range": "u32(tiles[group.x * 5u + 4u])", "last_range": "u32(tiles[group.x * 5u + 4u]) + 1u"}
    if not split:
        ranges = {"first_range": "0u", "last_range": "u32(last) / RANGE + 1u"}
    return text(
        "tanh",
        "pages",
        "attention",
        **shape.constants,
        **texts,
        **ranges,
        ROWS=rows,
        SCALE=shape.scale,
        SOFT_CAP=shape.soft_cap,
        LOG2_E=LOG2_E,
        LOWEST=LOWEST,
        four=pages.four,
        numbers=pages.vector,
        numbers_of=pages.numbers_of,
        scale="return unpack2x16float(stored(place.y));" if pages.scaled else "return vec2(1.0);",
    )


def _row_texts(pages: Pages, count: int, split: bool) -> dict[str, list[str]]:
    """What is done for each of the rows that a thread has of the values; registers cannot be counted through."""
    each: dict[str, list[str]] = {}
    for i in range(count):
        for name, line in _of_row(pages, i, split):
            each.setdefault(name, []).append(line)
    return each


def _of_row(pages: Pages, i: int, split: bool) -> Iterator[tuple[str, str]]:
    vector = pages.vector
    sums = "for (var j = 0u; j < 16u; j += 1u) {{ {} }}"
    yield "declared", f"let row{i} = part + {i}u * PARTS; let at{i} = min(row{i}, ROWS - 1u);"
    yield "declared", f"var peak{i} = LOWEST; var total{i} = 0.0; var out{i} = {vector}(0.0);"
    yield "peaks", f"peak{i} = LOWEST; {sums.format(f'peak{i} = max(peak{i}, marks[at{i} * 16u + j]);')}"
    yield "totals", f"total{i} = 0.0; {sums.format(f'total{i} += marks[at{i} * 16u + j];')} out{i} = {vector}(0.0);"
    yield "values", f"out{i} = fma({vector}(scores[at{i} * RANGE + key]), value, out{i});"
    there = f"if (part < PARTS && row{i} < rows)"
    parts = [f"out{i}"] if pages.numbers == 1 else [f"out{i}.{axis}" for axis in "xyzw"[: pages.numbers]]
    if split:
        yield "joined", ""
        to = f"let to = (group.x * Q_HEADS + head * GROUP + row{i}) * (D + 2u);"
        written = [f"ranges[to + word * {len(parts)}u + {j}u] = {part};" for j, part in enumerate(parts)]
        marks = f"if (word == 0u) {{ ranges[to + D] = peak{i}; ranges[to + D + 1u] = total{i}; }}"
        yield "stored", f"{there} {{ {to} {' '.join(written)} {marks} }}"
        return
    yield "declared", f"var all_peak{i} = LOWEST; var all_total{i} = 0.0; var all{i} = {vector}(0.0);"
    yield (
        "joined",
        (
            f"{{ let highest = max(all_peak{i}, peak{i}); let old = exp2(all_peak{i} - highest); "
            f"let fresh = exp2(peak{i} - highest); all_peak{i} = highest; "
            f"all_total{i} = fma(all_total{i}, old, total{i} * fresh); "
            f"all{i} = fma(all{i}, {vector}(old), out{i} * fresh); }}"
        ),
    )
    to = f"let to = ((first_token + row{i} / GROUP) * Q_HEADS + head * GROUP + row{i} % GROUP) * D;"
    written = [
        f"y[to + word * {len(parts)}u + {j}u] = {part.replace('out', 'all')} / all_total{i};"
        for j, part in enumerate(parts)
    ]
    yield "stored", f"{there} {{ {to} {' '.join(written)} }}"


def _pool(host: Host, shape: Shape) -> tuple[Tensor, list[tuple[str, Any]]]:
    return _place(host, shape, host.tensor("pool", ("layers", "pages", "page_bytes"), "uint8"))


def _place(host: Host, shape: Shape, pool: Tensor) -> tuple[Tensor, list[tuple[str, Any]]]:
    """The layer's part of the pool, where the layer is the next parameter; tokens and words of a page."""
    layer, page_bytes = host.number("layer"), host.size("page_bytes")
    page_size = tirx.floordiv(page_bytes, shape.token_bytes)
    numbers = [("page_size", page_size), ("page_words", tirx.floordiv(page_bytes, 4))]
    return pool.skipping(layer * host.size("pages") * page_bytes), numbers
