"""What queries see of the pages (source/attention.wgsl, join_ranges.wgsl)."""

from collections.abc import Iterator
from itertools import product
from math import gcd
from string import Template
from typing import Any

from tvm import tirx

from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.kernels.webgpu.host import Host, blocks
from kvscape.compiler.kernels.webgpu.pages import Pages, Shape, layer_pages, shape_of
from kvscape.compiler.kernels.webgpu.text import text

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
    tiles, name = op.shape(4)[0], f"paged_attention_{shape.kv_dtype}"
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
    place, numbers = layer_pages(host, shape, pool)
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
    of_rows = _row_texts(pages, of_thread, split)
    of_rows["values"] = list(_values(" ".join(of_rows.pop("each"))))
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
        **texts,
        **ranges,
        ROWS=rows,
        UNROLLED=_unrolled(shape),
        SCALE=shape.scale,
        SOFT_CAP=shape.soft_cap,
        LOG2_E=LOG2_E,
        LOWEST=LOWEST,
        four=pages.four,
        numbers=pages.vector,
        numbers_of=pages.numbers_of,
        scale="return unpack2x16float(stored(place.y));" if pages.scaled else "return vec2(1.0);",
    )


def _unrolled(shape: Shape) -> int:
    """Of the 16 bytes that a key has, how many are loaded at once."""
    return gcd(shape.words // 4, UNROLLED)


def _dot(shape: Shape, queries: str) -> Iterator[str]:
    count, fours = _unrolled(shape), shape.pages.numbers
    yield from (f"let raw{i} = pool[place + piece + {i}u];" for i in range(count))
    for i, j in product(range(count), range(fours)):
        chain = "sum"
        for axis in "xyzw":
            chain = f"fma(v.{axis}, k.{axis}, {chain})"
        value = f"{queries}[start + (piece + {i}u) * {fours}u + {j}u]"
        yield f"{{ let k = four(raw{i}, {j}u); let v = {value}; sum = {chain}; }}"


def _values(each: str) -> Iterator[str]:
    """Eight keys' values."""
    for i in range(VALUES):
        yield f"let place{i} = places[key + {i}u]; let raw{i} = stored(place{i}.x + value_skip() + word);"
    for i in range(VALUES):
        value = f"numbers_of(raw{i}) * scale_of(place{i}).y"
        yield f"{{ let value = {value}; {Template(each).substitute(key=f'{i}u')} }}"


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
    yield "each", f"out{i} = fma({vector}(scores[at{i} * RANGE + key + $key]), value, out{i});"
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
