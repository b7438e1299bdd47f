"""What queries see of the pages (source/attention.wgsl, own_keys.wgsl, join_ranges.wgsl, turn_values.wgsl)."""

from collections.abc import Iterator
from itertools import product
from math import gcd
from string import Template
from typing import Any

from tvm import tirx

from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.kernels.webgpu.host import Host, blocks, in_order
from kvscape.compiler.kernels.webgpu.pages import Shape, layer_pages, shape_of
from kvscape.compiler.kernels.webgpu.text import text
from kvscape.config import KEY_GROUP

RANGE = 64  # keys whose sums are made by themselves
ROWS = 16  # of a tile: tokens times query heads that share a key head
THREADS = 256
UNROLLED, VALUES = 4, 8  # loads of 16 bytes of a key, and values, that are under way at once
LOG2_E = 1.4426950408889634
LOWEST = -1.0e30


def tile_tokens(group: int) -> int:
    """Tokens of a full tile, when ``group`` query heads share a key head."""
    return max(1, ROWS // group)


def paged_attention(op: Operator) -> Kernel:
    layer, shape = shape_of(op)
    tiles, name = op.shape(4)[0], f"paged_attention_{shape.precision.identifier}"
    scratch = ((tiles * (shape.q_heads * (shape.D + 2)),), "float32")
    return Kernel(name, lambda: paged_attention_function(shape, name), (*op.tensors, layer), scratch=(scratch,))


def paged_attention_function(shape: Shape, name: str) -> Any:
    """Arguments as the CPU's kernel has them, and sums of single ranges f32 [tiles q_heads (D + 2)] at the end."""
    D = shape.D
    host = Host(name)
    queries = [host.tensor(name, ("n", shape.q_heads * D), "float32").read("vec4<f32>") for name in ("q", "sink_q")]
    pool = host.tensor("pool", ("layers", "pages", "page_bytes"), "uint8")
    tables, tiles = host.tensor("tables", ("s", "w"), "int32"), host.tensor("tiles", ("t", 5), "int32")
    pieces, positions = host.tensor("pieces", ("m",), "int32"), host.tensor("positions", ("n",), "int32")
    window = host.tensor("window", (2,), "int32")
    own = (
        [host.tensor("own", ("groups", shape.heads, D * KEY_GROUP), "float32").read("vec4<f32>")]
        if shape.grouped
        else []
    )
    place, numbers = layer_pages(host, shape, pool, host.number("layer"))
    y = host.tensor("y", ("n", shape.q_heads * D), "float32")
    ranges = host.tensor("ranges", ("found",), "float32")
    seen = [*(each.read("i32") for each in (tables, tiles, positions, window)), *own]
    numbers, rows = [*numbers, ("width", host.size("w"))], [host.size("n"), shape.q_heads]

    def attend(split: bool) -> Any:
        bindings = [*queries, place.read("vec4<u32>"), *seen, (ranges if split else y).write("f32")]
        return host.launch(_attention_text(shape, split), bindings, numbers, [host.size("t"), shape.heads])

    whole = [attend(False)]
    result, turning = ("hadamard(found / total, d)", [shape.turning]) if shape.values_turned else ("found / total", [])
    if turning:
        source = "\n".join([*turning, text("turn_values", Q_HEADS=shape.q_heads, D=D)])
        whole.append(host.launch(source, [y.write("f32")], [], rows))
    joins = [ranges.read("f32"), pieces.read("i32"), y.write("f32")]
    source = text("join_ranges", Q_HEADS=shape.q_heads, D=D, LOWEST=LOWEST, result=result)
    join = host.launch("\n".join([*turning, source]), joins, [], rows)
    return host.function(tirx.IfThenElse(host.size("m") > 0, tirx.SeqStmt([attend(True), join]), in_order(whole)))


def _attention_text(shape: Shape, split: bool) -> str:
    group, units = shape.q_heads // shape.heads, shape.D // shape.values.of_thread
    rows = group if split else group * tile_tokens(group)
    of_thread = blocks(rows, THREADS // units)
    of_rows = _row_texts(shape, of_thread, split)
    of_rows["values"] = list(_values(shape, " ".join(of_rows.pop("each"))))
    of_rows |= {"product": list(_dot(shape, "q")), "sink_product": list(_dot(shape, "sink_q"))}
    texts = {name: "\n".join(lines) for name, lines in of_rows.items()}
    ranges = {"first_range": "u32(tiles[group.x * 5u + 4u])", "last_range": "u32(tiles[group.x * 5u + 4u]) + 1u"}
    if not split:
        ranges = {"first_range": "0u", "last_range": "u32(last) / RANGE + 1u"}
    return text(
        "tanh",
        "pages",
        "attention",
        **shape.constants,
        **shape.places,
        **texts,
        **ranges,
        **(_GROUPED if shape.grouped else _PLAIN),
        **_scales(shape),
        own=text("own_keys", own_chain=_chain("sum")) if shape.grouped else "",
        ROWS=rows,
        UNITS=units,
        PIECES=_pieces(shape),
        UNROLLED=_unrolled(shape),
        SCALE=shape.scale,
        SOFT_CAP=shape.soft_cap,
        LOG2_E=LOG2_E,
        LOWEST=LOWEST,
        four=shape.keys.four,
        numbers=shape.values.vector,
        numbers_of=shape.values.numbers_of,
    )


# How a query meets a key, and what of a range lies ready for that.
_PLAIN = {
    "staged": "",
    "met": """if (at < sinks) {
              sum = sink_product(start, place.x, 0u);
            } else {
              sum = product(start, place.x, 0u);
            }""",
}
_GROUPED = {
    "staged": """for (var i = thread; i < D; i += 256u) {  // four dimensions of one of four groups
      var found: array<u32, 4>;
      for (var j = 0u; j < 4u; j += 1u) {
        let dimension = i % (D / 4u) * 4u + j;
        let key = i / (D / 4u) * KEY_GROUP + dimension / (D / KEY_GROUP);
        found[j] = stored(places[key].z + dimension % (D / KEY_GROUP));
      }
      steps[i] = vec4(found[0], found[1], found[2], found[3]);
    }
    workgroupBarrier();""",
    "met": """if (at / i32(KEY_GROUP) == position / i32(KEY_GROUP)) {
              let of_group = u32(tiles[group.x * 5u + 3u] + at / i32(KEY_GROUP)) * HEADS + head;
              let own_key = (of_group * KEY_GROUP + key % KEY_GROUP) * D / 4u;
              if (at < sinks) {
                sum = own_sink_product(start, own_key);
              } else {
                sum = own_product(start, own_key);
              }
            } else if (at < sinks) {
              sum = sink_product(start, place.x, key / KEY_GROUP * D / 4u);
            } else {
              sum = product(start, place.x, key / KEY_GROUP * D / 4u);
            }""",
}


def _scales(shape: Shape) -> dict[str, str]:
    key, value = shape.precision.key, shape.precision.value
    whole = "unpack2x16float(stored(place.{}))"
    of_key, of_value = "half_at(place.z)", "vec2(half_at(place.w), 0.0)"
    if not shape.halves:
        of_key, of_value = f"{whole.format('z')}.x", f"vec2({whole.format('w')}.y, 0.0)"
    if value == "int4":
        of_value = whole.format("w")
    return {
        "key_scale_at": of_key if key == "int8" else "1.0",
        "value_scale_at": of_value if value.startswith("int") else "vec2(1.0, 0.0)",
    }


def _pieces(shape: Shape) -> int:
    """Of 16 bytes, or of one word where these do not begin at multiples of 16 bytes."""
    return shape.key_words // 4 if shape.key_words % 4 == 0 else shape.key_words


def _unrolled(shape: Shape) -> int:
    """Of the pieces that a key has, how many are loaded at once."""
    return gcd(_pieces(shape), UNROLLED)


def _chain(start: str) -> str:
    """The products of v and k added one after the other."""
    for axis in "xyzw":
        start = f"fma(v.{axis}, k.{axis}, {start})"
    return start


def _dot(shape: Shape, queries: str) -> Iterator[str]:
    count, of_word, whole = _unrolled(shape), shape.keys.of_word, shape.key_words % 4 == 0
    fours = of_word if whole else of_word // 4
    for i in range(count):
        yield (
            f"let raw{i} = pool[place / 4u + piece + {i}u];"
            if whole
            else (f"let raw{i} = vec4(stored(place + piece + {i}u), 0u, 0u, 0u);")
        )
    for i, j in product(range(count), range(fours)):
        at = f"(piece + {i}u) * {fours}u + {j}u"
        key = f"four(raw{i}, {j}u)"
        key = f"scaled({key}, constants + {at})" if shape.grouped else key
        yield f"{{ let k = {key}; let v = {queries}[start + {at}]; sum = {_chain('sum')}; }}"


def _values(shape: Shape, each: str) -> Iterator[str]:
    """Eight keys' values."""
    units = shape.values.of_word // shape.values.of_thread  # of a word
    at = "word" if units == 1 else f"word / {units}u"
    for i in range(VALUES):
        yield f"let place{i} = places[key + {i}u]; let raw{i} = stored(place{i}.y + {at});"
    for i in range(VALUES):
        yield f"{{ let value = {_value(shape, i)}; {Template(each).substitute(key=f'{i}u')} }}"


def _value(shape: Shape, i: int) -> str:
    found = f"numbers_of(raw{i}, word)"
    if shape.precision.value == "int8":
        return f"{found} * value_scale(place{i}).x"
    if shape.precision.value != "int4":
        return found
    vector = shape.values.vector
    return f"fma({found}, {vector}(value_scale(place{i}).x), {vector}(value_scale(place{i}).y))"


def _row_texts(shape: Shape, count: int, split: bool) -> dict[str, list[str]]:
    """What is done for each of the rows that a thread has of the values; registers cannot be counted through."""
    each: dict[str, list[str]] = {}
    for i in range(count):
        for name, line in _of_row(shape, i, split):
            each.setdefault(name, []).append(line)
    return each


def _of_row(shape: Shape, i: int, split: bool) -> Iterator[tuple[str, str]]:
    vector, numbers = shape.values.vector, shape.values.of_thread
    sums = "for (var j = 0u; j < 16u; j += 1u) {{ {} }}"
    yield "declared", f"let row{i} = part + {i}u * PARTS; let at{i} = min(row{i}, ROWS - 1u);"
    yield "declared", f"var peak{i} = LOWEST; var total{i} = 0.0; var out{i} = {vector}(0.0);"
    yield "peaks", f"peak{i} = LOWEST; {sums.format(f'peak{i} = max(peak{i}, marks[at{i} * 16u + j]);')}"
    yield "totals", f"total{i} = 0.0; {sums.format(f'total{i} += marks[at{i} * 16u + j];')} out{i} = {vector}(0.0);"
    yield "each", f"out{i} = fma({vector}(scores[at{i} * RANGE + key + $key]), value, out{i});"
    there = f"if (part < PARTS && row{i} < rows)"
    parts = [f"out{i}"] if numbers == 1 else [f"out{i}.{axis}" for axis in "xyzw"[:numbers]]
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
