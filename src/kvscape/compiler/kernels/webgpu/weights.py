"""The texts of kernels that read packed weights (source/weights.wgsl, matvec.wgsl, matmul.wgsl; layouts/words.py)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from kvscape.artifact.shaders import part_rows
from kvscape.compiler.kernels.webgpu.host import blocks
from kvscape.compiler.kernels.webgpu.text import text
from kvscape.quantization.format import Format
from kvscape.quantization.layouts.words import ROWS, WordLayout, group_size, groups, loads

RANGES = 32  # of columns, whose sums are made by themselves
TILE = 64  # rows and tokens of the smallest product for many tokens
TILES = (1, 2)  # where there are more tokens: how many times as many rows, and tokens, a workgroup has
SHARED_BYTES = 16384  # of a workgroup, in every GPU
_HALVES = (0, 8)  # the two rows of a thread, of a block
_NAMES = "xyzw"


@dataclass(frozen=True)
class Part:
    """Blocks of rows that lie in one binding."""

    first: int
    blocks: int
    of: int


def parts(fmt: Format, N: int, K: int) -> list[Part]:
    """Larger weights lie in parts, each of which is bound by itself."""
    (rows, row_bytes), _ = WordLayout().shapes(fmt, N, K)["codes"]
    step = part_rows(rows, rows * row_bytes)
    return [Part(first, min(step, rows - first), rows) for first in range(0, rows, step)]


def matvec_text(fmt: Format, N: int, K: int, part: Part, tokens: int) -> str:
    each = list(product(_HALVES, range(tokens)))
    stored = [f"parts[({t}u * 32u + range) * 16u + row + {half}u] = sum{half}_{t};" for half, t in each]
    return text(
        "weights",
        "matvec",
        **_texts(fmt),
        **_sizes(fmt, N, K, part),
        TOKENS=tokens,
        declared="\n  ".join(f"var sum{half}_{t} = 0.0;" for half, t in each),
        product="\n    ".join(_product(fmt, K, tokens)),
        stored="\n  ".join(stored),
    )


def matmul_text(fmt: Format, N: int, K: int, part: Part, row_tiles: int, token_tiles: int) -> str:
    """Each of 16 by 16 threads has every 16th row and every 16th token of the tile."""
    rows, tokens = range(4 * row_tiles), range(4 * token_tiles)
    texts: dict[str, list[str]] = {"declared": [], "joined": [], "stored": []}
    texts["product"] = [f"let w{i} = weights[q * TILE_ROWS + across + {16 * i}u];" for i in rows]
    texts["product"] += [f"let v{j} = inputs[q * TILE_TOKENS + down + {16 * j}u];" for j in tokens]
    for i, j in product(rows, tokens):
        name = f"{i}_{j}"
        texts["declared"].append(f"var sum{name} = 0.0; var total{name} = 0.0;")
        texts["product"].append(f"sum{name} = {_chain(f'w{i}', f'v{j}', f'sum{name}')};")
        texts["joined"].append(f"total{name} += sum{name}; sum{name} = 0.0;")
        texts["stored"].append(f"store(first_row + across + {16 * i}u, first_token + down + {16 * j}u, total{name});")
    lines = {name: "\n".join(each) for name, each in texts.items()}
    tiles = {"ROW_TILES": row_tiles, "TOKEN_TILES": token_tiles, "STEP": _step(fmt, row_tiles + token_tiles)}
    return text("weights", "matmul", **_texts(fmt), **_sizes(fmt, N, K, part), **tiles, **lines)


def _step(fmt: Format, tiles: int) -> int:
    """Of a group, how many times four columns fit into shared memory that every GPU has."""
    quads, places = group_size(fmt) // 4, SHARED_BYTES // (16 * TILE * tiles)
    return max(step for step in range(1, quads + 1) if quads % step == 0 and step <= places)


def _chain(w: str, v: str, start: str) -> str:
    """Four products added one after the other."""
    for axis in _NAMES:
        start = f"fma({w}.{axis}, {v}.{axis}, {start})"
    return start


def _product(fmt: Format, K: int, tokens: int) -> Iterator[str]:
    """One group of columns of a thread's two rows, four at a time; of the last group some may not be there."""
    count = loads(fmt)
    quads = group_size(fmt) // 4 // count
    partial = K % group_size(fmt) != 0
    yield "let place = group.x * GROUPS + g;"
    yield "let at = place * LOADS * 16u + row;"
    for half, load in product(_HALVES, range(count)):
        yield f"let words{half}_{load} = codes[at + {load * ROWS + half}u];"
    for half in _HALVES:
        yield f"let scale{half} = constants(place, row + {half}u);"
    for load, j in product(range(count), range(quads)):
        column = f"column + {load * quads + j}u"
        yield "{"
        for half in _HALVES:
            each = ", ".join(f"number(words{half}_{load}.{axis}, {j}u)" for axis in _NAMES)
            yield f"let w{half} = fma(vec4({each}), vec4(scale{half}.x), vec4(scale{half}.y));"
        for t in range(tokens):
            place = f"min(token + {t}u, numbers.n - 1u) * {K // 4}u + {column}" if tokens > 1 else column
            value = f"x[{place}]"
            if partial:
                value = f"select(vec4(0.0), x[min({place}, numbers.n * {K // 4}u - 1u)], {column} < {K // 4}u)"
            sums = " ".join(f"sum{half}_{t} = {_chain(f'w{half}', 'v', f'sum{half}_{t}')};" for half in _HALVES)
            yield f"{{ let v = {value}; {sums} }}"
        yield "}"


def _texts(fmt: Format) -> dict[str, str]:
    return {"number": f"return {_number(fmt)};", "constants": f"return {_constants(fmt)};"}


def _number(fmt: Format) -> str:
    if fmt.bits == 32:
        return "bitcast<f32>(word)"
    if fmt.bits == 16:
        return "unpack2x16float(word >> (16u * j)).x"
    mask, top = (1 << fmt.bits) - 1, 23 - fmt.bits
    return f"bitcast<f32>((((word >> ({fmt.bits}u * j)) & {mask}u) << {top}u) | 0x3f800000u)"


def _constants(fmt: Format) -> str:
    if fmt.is_float:
        return "vec2(1.0, 0.0)"
    place, steps = "place * 16u + row", 1 << fmt.bits
    if not fmt.symmetric:
        both = f"unpack2x16float(scales[{place}])"
        return f"vec2({both}.x * {steps}.0, {both}.y - {both}.x * {steps}.0)"
    half = f"unpack2x16float(scales[({place}) / 2u] >> (16u * (row & 1u))).x"
    scale = half if fmt.scale_dtype == "float16" else f"scales[{place}]"
    return f"{scale} * vec2({steps}.0, -{steps + fmt.max_int}.0)"


def _sizes(fmt: Format, N: int, K: int, part: Part) -> dict[str, int]:
    count = groups(fmt, K)
    return {
        "N": N,
        "K": K,
        "FIRST": part.first,
        "BLOCKS": part.blocks,
        "GROUPS": count,
        "LENGTH": blocks(count, RANGES),
        "LOADS": loads(fmt),
        "QUADS": group_size(fmt) // 4,
    }


def embedding_text(fmt: Format, N: int, K: int, part: Part) -> str:
    return text("weights", "embedding", **_texts(fmt), **_sizes(fmt, N, K, part))
