"""Where keys and values lie in a page, and how they are read and written at each KV precision.

A pool is [layers, pages, page elements]; the page holds, for each key head, its keys and then, for each, its values:
keys    [head][token / 16][dimension][token % 16]  16 tokens side by side: one vector multiplies 16 keys at once;
values  [head][token][dimension];
int8 pages (a pool of bytes) end with the f16 scales of the keys [head][token] and of the values [head][token].
"""

from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.vector import Expr

TOKENS = 16  # tokens of one key block


@dataclass(frozen=True)
class Pages:
    """Offsets into a page of ``heads`` key heads; every offset counts elements of the pool."""

    kv_dtype: str
    heads: int
    dim: int

    @property
    def pool_dtype(self) -> str:
        return {"f32": "float32", "f16": "float16", "int8": "uint8"}[self.kv_dtype]

    @property
    def quantized(self) -> bool:
        return self.kv_dtype == "int8"

    @property
    def token_elements(self) -> int:
        """Elements of the pool for one token in one layer."""
        return 2 * self.heads * (self.dim + (2 if self.quantized else 0))

    def page_size(self, page_elements: Expr) -> Expr:
        """Tokens of a page of ``page_elements`` elements."""
        return T.floordiv(page_elements, self.token_elements)

    def key(self, page_size: Expr, head: Expr, token: Expr) -> Expr:
        """First element of a token's key; its dimensions are TOKENS elements apart."""
        block = T.floordiv(token, TOKENS) * TOKENS
        return (head * page_size + block) * self.dim + T.floormod(token, TOKENS)

    def value(self, page_size: Expr, head: Expr, token: Expr) -> Expr:
        return (self.heads * page_size + head * page_size + token) * self.dim

    def key_scale(self, page_size: Expr, head: Expr, token: Expr) -> Expr:
        return 2 * self.heads * page_size * self.dim + 2 * (head * page_size + token)

    def value_scale(self, page_size: Expr, head: Expr, token: Expr) -> Expr:
        return self.key_scale(page_size, self.heads + head, token)


def read(pages: Pages, pool: Any, layer: Expr, page: Expr, at: Expr, lanes: int) -> Expr:
    """``lanes`` consecutive elements as f32; int8 codes are not scaled."""
    raw = pool[layer, page, T.ramp(at, 1, lanes)]
    return T.cast(T.reinterpret(f"int8x{lanes}", raw) if pages.quantized else raw, f"float32x{lanes}")


def read_scale(pool: Any, layer: Expr, page: Expr, at: Expr) -> Expr:
    """The f16 scale at byte ``at``, as f32."""
    return T.cast(T.reinterpret("float16", pool[layer, page, T.ramp(at, 1, 2)]), "float32")
