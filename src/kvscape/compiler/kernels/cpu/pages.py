"""Where keys and values lie in a page.

A pool is bytes, [layers, pages, page bytes]; a page holds, for each of its regions in turn, what belongs to each head:
keys          [token / 8][dimension][token % 8]  8 tokens side by side: one vector multiplies 8 keys at once;
              int4: [token / 8][dimension % half][token % 8], the upper half of the dimensions in the upper four bits;
values        [token][dimension]; int4: [token][dimension % half], likewise;
key scales    int8: f16 [token]; int4: f16 [token / 8][dimension], the scales of 16 tokens with the first 8 of them,
              their minimums with the others, which may be in the next page;
value scales  int8: f16 [token]; int4: f16 [token][2], scale and minimum.
"""

from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from kvscape.analysis.memory import KEY_SCALE_BYTES, VALUE_SCALE_BYTES, code_bytes
from kvscape.compiler.kernels.cpu.vector import Expr
from kvscape.config import KVPrecision

TOKENS = 8  # tokens whose keys lie side by side


@dataclass(frozen=True)
class Pages:
    """Byte offsets into a page of ``heads`` key heads of ``dim`` dimensions."""

    precision: KVPrecision
    heads: int
    dim: int

    @property
    def key_bytes(self) -> int:
        """Bytes of the codes of one token's key in one head."""
        return code_bytes(self.precision.key, self.dim)

    @property
    def value_bytes(self) -> int:
        return code_bytes(self.precision.value, self.dim)

    @property
    def key_scale_bytes(self) -> int:
        return KEY_SCALE_BYTES[self.precision.key](self.dim)

    @property
    def value_scale_bytes(self) -> int:
        return VALUE_SCALE_BYTES[self.precision.value]

    @property
    def token_bytes(self) -> int:
        return self.heads * (self.key_bytes + self.value_bytes + self.key_scale_bytes + self.value_scale_bytes)

    def page_size(self, page_bytes: Expr) -> Expr:
        """Tokens of a page of ``page_bytes``."""
        return T.floordiv(page_bytes, self.token_bytes)

    def keys(self, page_size: Expr, head: Expr, token: Expr) -> Expr:
        """First byte of the keys of the 8 tokens that ``token`` is one of."""
        return (head * page_size + T.floordiv(token, TOKENS) * TOKENS) * self.key_bytes

    def value(self, page_size: Expr, head: Expr, token: Expr) -> Expr:
        """First byte of a token's value."""
        return self.heads * page_size * self.key_bytes + (head * page_size + token) * self.value_bytes

    def key_scale(self, page_size: Expr, head: Expr, token: Expr) -> Expr:
        """First byte of a token's scale, or of what the 8 tokens keep that an int4 ``token`` is the first of."""
        start = self.heads * page_size * (self.key_bytes + self.value_bytes)
        return start + (head * page_size + token) * self.key_scale_bytes

    def value_scale(self, page_size: Expr, head: Expr, token: Expr) -> Expr:
        start = self.heads * page_size * (self.key_bytes + self.value_bytes + self.key_scale_bytes)
        return start + (head * page_size + token) * self.value_scale_bytes


def read(pool: Any, layer: Expr, page: Expr, at: Expr, dtype: str, lanes: int) -> Expr:
    """``lanes`` numbers of ``dtype`` (f32, f16 or int8) from byte ``at`` on, as f32."""
    kind = {"f32": "float32", "f16": "float16", "int8": "int8"}[dtype]
    size = code_bytes(dtype, 1)
    raw = pool[layer, page, T.ramp(at, 1, lanes * size)]
    return T.cast(T.reinterpret(f"{kind}x{lanes}", raw), f"float32x{lanes}")


def read_half(pool: Any, layer: Expr, page: Expr, at: Expr) -> Expr:
    """The f16 number at byte ``at``, as f32."""
    return T.cast(T.reinterpret("float16", pool[layer, page, T.ramp(at, 1, 2)]), "float32")


def read_nibbles(pool: Any, layer: Expr, page: Expr, at: Expr, upper: Expr, lanes: int) -> Expr:
    """The lower (``upper`` 0) or upper (1) four bits of ``lanes`` bytes, as f32."""
    raw = T.cast(pool[layer, page, T.ramp(at, 1, lanes)], f"int32x{lanes}")
    bits = T.shift_right(raw, T.broadcast(T.cast(4 * upper, "int32"), lanes)) & T.broadcast(T.int32(15), lanes)
    return T.cast(bits, f"float32x{lanes}")
