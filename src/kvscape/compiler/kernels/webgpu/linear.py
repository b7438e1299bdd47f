"""Products with packed weights, and rows of them (source/weights.wgsl, matvec.wgsl, matmul.wgsl, embedding.wgsl)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from tvm import tirx

from kvscape.artifact.shaders import part_rows
from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.kernels.webgpu.host import Host, Tensor, blocks, by_size
from kvscape.compiler.kernels.webgpu.text import text
from kvscape.quantization.format import Format
from kvscape.quantization.layouts.words import ROWS, WordLayout, group_size, groups, loads

RANGES = 16  # of columns, whose sums are made by themselves
# Of the product for many tokens: rows and tokens that a thread has, four at a time; so many threads lie side by side.
ROW_QUADS, TOKEN_QUADS, QUAD_STEP = 1, 1, 64
_NAMES = "xyzw"


@dataclass(frozen=True)
class Part:
    """Blocks of rows that lie in one binding."""

    first: int
    blocks: int
    row_bytes: int


def linear(op: Operator) -> Kernel:
    fmt, (_, N, K), (x, *arrays) = op.format, op.constants, op.tensors
    return Kernel(f"linear_{fmt.name}_{N}x{K}", lambda: linear_function(fmt, N, K), (*arrays, x))


def embedding(op: Operator) -> Kernel:
    fmt, (_, N, K), (ids, *arrays) = op.format, op.constants, op.tensors
    return Kernel(f"embedding_{fmt.name}_{N}x{K}", lambda: embedding_function(fmt, N, K), (*arrays, ids))


def linear_function(fmt: Format, N: int, K: int) -> Any:
    """Arguments: the packed weight, x f32 [n, K]; y f32 [n, N]."""
    host = Host(f"linear_{fmt.name}_{N}x{K}")
    weight = _weight(host, fmt, N, K)
    x, y, n = host.tensor("x", ("n", K), "float32"), host.tensor("y", ("n", N), "float32"), host.size("n")

    def matvec(tokens: int) -> Callable[[Part], Any]:
        def launch(part: Part) -> Any:
            bindings = [*_bound(weight, fmt, part, "vec4<u32>"), x.read("vec4<f32>"), y.write("f32")]
            grid = [part.blocks, blocks(n, tokens)]
            return host.launch(_matvec_text(fmt, N, K, part, tokens), bindings, [("n", n)], grid)

        return launch

    def matmul(part: Part) -> Any:
        bindings = [*_bound(weight, fmt, part, "u32"), x.read("f32"), y.write("f32")]
        grid = [blocks(part.blocks * ROWS, QUAD_STEP * ROW_QUADS), blocks(n, QUAD_STEP * TOKEN_QUADS)]
        return host.launch(_matmul_text(fmt, N, K, part), bindings, [("n", n)], grid)

    def all_parts(launch: Callable[[Part], Any]) -> Any:
        return _in_order([launch(part) for part in _parts(fmt, N, K)])

    choices = [(limit, all_parts(matvec(tokens))) for limit, tokens in ((1, 1), (4, 4), (16, 8))]
    return host.function(by_size(n, choices, all_parts(matmul)))


def embedding_function(fmt: Format, N: int, K: int) -> Any:
    """Arguments: the packed weight, token_ids int32 [n]; y f32 [n, K]."""
    host = Host(f"embedding_{fmt.name}_{N}x{K}")
    weight = _weight(host, fmt, N, K)
    ids, y = host.tensor("ids", ("n",), "int32").read("i32"), host.tensor("y", ("n", K), "float32").write("f32")
    launches = [
        host.launch(
            text("weights", "embedding", **_texts(fmt), **_sizes(fmt, N, K, part)),
            [*_bound(weight, fmt, part, "u32"), ids, y],
            [],
            [host.size("n")],
        )
        for part in _parts(fmt, N, K)
    ]
    return host.function(_in_order(launches))


def _matvec_text(fmt: Format, N: int, K: int, part: Part, tokens: int) -> str:
    sums = [f"var sum{t} = 0.0;" for t in range(tokens)]
    stored = [f"parts[({t}u * 16u + range) * 16u + row] = sum{t};" for t in range(tokens)]
    return text(
        "weights",
        "matvec",
        **_texts(fmt),
        **_sizes(fmt, N, K, part),
        TOKENS=tokens,
        declared="\n  ".join(sums),
        product="\n    ".join(_product(fmt, K, tokens)),
        stored="\n  ".join(stored),
    )


def _matmul_text(fmt: Format, N: int, K: int, part: Part) -> str:
    texts: dict[str, list[str]] = {"declared": [], "product": [], "joined": [], "stored": []}
    for quad in range(ROW_QUADS):
        texts["product"].append(f"let w{quad} = weights[k * ROW_STEP + across + {16 * quad}u];")
    for quad in range(TOKEN_QUADS):
        texts["product"].append(f"let v{quad} = inputs[k * TOKEN_STEP + down + {16 * quad}u];")
    for a, i, b in product(range(ROW_QUADS), range(4), range(TOKEN_QUADS)):
        name = f"{a}_{i}_{b}"
        texts["declared"].append(f"var sum{name} = vec4(0.0); var total{name} = vec4(0.0);")
        texts["product"].append(f"sum{name} = fma(v{b}, vec4(w{a}.{_NAMES[i]}), sum{name});")
        texts["joined"].append(f"total{name} += sum{name}; sum{name} = vec4(0.0);")
        row = f"first_row + (across + {16 * a}u) * 4u + {i}u"
        for j, axis in enumerate(_NAMES):
            texts["stored"].append(f"store({row}, first_token + (down + {16 * b}u) * 4u + {j}u, total{name}.{axis});")
    lines = {name: "\n".join(each) for name, each in texts.items()}
    quads = {"ROW_QUADS": ROW_QUADS, "TOKEN_QUADS": TOKEN_QUADS}
    return text("weights", "matmul", **_texts(fmt), **_sizes(fmt, N, K, part), **quads, **lines)


def _product(fmt: Format, K: int, tokens: int) -> Iterator[str]:
    """One group of columns, four at a time; of the last group some may not be there."""
    count = loads(fmt)
    quads = group_size(fmt) // 4 // count
    partial = K % group_size(fmt) != 0
    for load in range(count):
        yield f"let words{load} = codes[at + {load * ROWS}u];"
    for load in range(count):
        for j in range(quads):
            column = f"column + {load * quads + j}u"
            each = ", ".join(f"number(words{load}.{axis}, {j}u)" for axis in _NAMES)
            yield f"{{ let w = fma(vec4({each}), vec4(scale.x), vec4(scale.y));"
            for t in range(tokens):
                place = f"min(token + {t}u, numbers.n - 1u) * {K // 4}u + {column}" if tokens > 1 else column
                value = f"select(vec4(0.0), x[{place}], {column} < {K // 4}u)" if partial else f"x[{place}]"
                chain = f"sum{t}"
                for axis in _NAMES:
                    chain = f"fma(w.{axis}, v.{axis}, {chain})"
                yield f"{{ let v = {value}; sum{t} = {chain}; }}"
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


def _parts(fmt: Format, N: int, K: int) -> list[Part]:
    """Larger weights lie in parts, each of which is bound by itself."""
    (rows, row_bytes), _ = WordLayout().shapes(fmt, N, K)["codes"]
    step = part_rows(rows, rows * row_bytes)
    return [Part(first, min(step, rows - first), row_bytes) for first in range(0, rows, step)]


def _weight(host: Host, fmt: Format, N: int, K: int) -> list[Tensor]:
    return [host.tensor(name, shape, dtype) for name, (shape, dtype) in WordLayout().shapes(fmt, N, K).items()]


def _bound(weight: list[Tensor], fmt: Format, part: Part, element: str) -> list[Any]:
    """The part's codes, and all scales."""
    codes, *scales = weight
    if part.first:
        codes = codes.skipping(part.first * part.row_bytes)
    return [codes.read(element), *(each.read("u32" if fmt.scale_dtype == "float16" else "f32") for each in scales)]


def _in_order(statements: list[Any]) -> Any:
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)
