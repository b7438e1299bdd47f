"""How keys and values lie in the pool, for each precision (source/pages.wgsl)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tvm import tirx

from kvscape.analysis.memory import KEY_SCALE_BYTES, VALUE_SCALE_BYTES, code_bytes
from kvscape.compiler.kernels.kernel import Operator
from kvscape.compiler.kernels.webgpu.host import Host, Tensor

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


def shape_of(op: Operator) -> tuple[int, Shape]:
    """The layer and the shape that an operator has."""
    layer, *constants = op.constants
    return layer, Shape(*constants)


def layer_pages(host: Host, shape: Shape, pool: Tensor) -> tuple[Tensor, list[tuple[str, Any]]]:
    """The layer's part of the pool, where the layer is the next parameter; tokens and words of a page."""
    layer, page_bytes = host.number("layer"), host.size("page_bytes")
    page_size = tirx.floordiv(page_bytes, shape.token_bytes)
    numbers = [("page_size", page_size), ("page_words", tirx.floordiv(page_bytes, 4))]
    return pool.skipping(layer * host.size("pages") * page_bytes), numbers
