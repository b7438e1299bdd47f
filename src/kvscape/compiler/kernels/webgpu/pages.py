"""How keys and values lie in the pool, for each precision (source/pages.wgsl, keep.wgsl)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tvm import tirx

from kvscape.analysis.memory import KEY_SCALE_BYTES, VALUE_SCALE_BYTES, code_bytes
from kvscape.compiler.kernels.kernel import Operator
from kvscape.compiler.kernels.webgpu.host import Binding, Host, Tensor
from kvscape.compiler.kernels.webgpu.text import text
from kvscape.config import KEY_GROUP, KVPrecision
from kvscape.quantization.kv import rotation_size

PAGE_MULTIPLE = 8  # tokens: pages, and the keys in them, begin at multiples of 16 bytes
_BYTES = "vec4<f32>(bitcast<vec4<i32>>(vec4({}) << vec4(24u, 16u, 8u, 0u)) >> vec4(24u))"
_NIBBLES = "vec4<f32>((vec4({}) >> vec4(0u, 4u, 8u, 12u)) & vec4(15u))"
_EIGHTS = "e4m3((vec4({}) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u))"


@dataclass(frozen=True)
class Numbers:
    """How a precision lies in words of 32 bits: numbers of a word, and of what a thread reads of a value; the texts
    that read the i-th four of 16 bytes, and the numbers of a ``word`` at a value's place."""

    of_word: int
    of_thread: int
    four: str
    numbers_of: str

    @property
    def vector(self) -> str:
        return "f32" if self.of_thread == 1 else f"vec{self.of_thread}<f32>"


NUMBERS: Mapping[str, Numbers] = MappingProxyType(
    {
        "f32": Numbers(1, 1, "return bitcast<vec4<f32>>(raw);", "return bitcast<f32>(word);"),
        "f16": Numbers(
            2,
            2,
            "let pair = select(raw.xy, raw.zw, i == 1u);\n"
            "  return vec4(unpack2x16float(pair.x), unpack2x16float(pair.y));",
            "return unpack2x16float(word);",
        ),
        "fp8": Numbers(4, 4, f"return {_EIGHTS.format('raw[i]')};", f"return {_EIGHTS.format('word')};"),
        "int8": Numbers(4, 4, f"return {_BYTES.format('raw[i]')};", f"return {_BYTES.format('word')};"),
        "int4": Numbers(
            8,
            4,
            f"return {_NIBBLES.format('raw[i / 2u] >> (16u * (i % 2u))')};",
            f"return {_NIBBLES.format('word >> (16u * (place % 2u))')};",
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
    def precision(self) -> KVPrecision:
        return KVPrecision.parse(self.kv_dtype)

    @property
    def keys(self) -> Numbers:
        return NUMBERS[self.precision.key]

    @property
    def values(self) -> Numbers:
        return NUMBERS[self.precision.value]

    @property
    def key_words(self) -> int:
        """Words of the codes of a head's key."""
        return self.D // self.keys.of_word

    @property
    def value_words(self) -> int:
        return self.D // self.values.of_word

    @property
    def grouped(self) -> bool:
        """Whether keys are rounded in groups."""
        return self.precision.key_group > 1

    @property
    def values_turned(self) -> bool:
        """Whether values are multiplied by a Hadamard matrix."""
        return self.precision.value == "int4"

    @property
    def halves(self) -> bool:
        """Whether two tokens' scales share a word: one f16 number for each, of keys or of values alone."""
        return (self.precision.key == "int8") != (self.precision.value == "int8")

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values in one layer."""
        key, value = self.precision.key, self.precision.value
        scales = KEY_SCALE_BYTES[key](self.D) + VALUE_SCALE_BYTES[value]
        return self.heads * (code_bytes(key, self.D) + code_bytes(value, self.D) + scales)

    @property
    def constants(self) -> dict[str, Any]:
        return {"Q_HEADS": self.q_heads, "HEADS": self.heads, "D": self.D}

    @property
    def places(self) -> dict[str, Any]:
        """What source/pages.wgsl wants to know: where scales begin is counted in words, or in f16 numbers."""
        key, value = self.precision.key, self.precision.value
        of_key = KEY_SCALE_BYTES[key](self.D) // 2
        both = key == value == "int8"
        key_scale = {"int8": "scales + row" if both else "2u * scales + row", "int4": f"scales + row * {of_key // 2}u"}
        value_scale = {
            "int8": "scales + row" if both else f"2u * scales + rows * {of_key}u + row",
            "int4": f"scales + rows * {of_key}u / 2u + row",
        }
        found = {"key_scale": key_scale.get(key, "0u"), "value_scale": value_scale.get(value, "0u")}
        return found | {"KEY_WORDS": self.key_words, "VALUE_WORDS": self.value_words}

    def written(self, pool: Tensor) -> Binding:
        """The pool as kernels change it."""
        return pool.write("atomic<u32>" if self.halves else "u32")

    @property
    def keeping(self) -> str:
        """The text of source/keep.wgsl."""
        put = "pool[word] = value;"
        half = ""
        if self.halves:
            put = "atomicStore(&pool[word], value);"
            half = (
                "let shift = 16u * (index % 2u);\n"
                "  atomicAnd(&pool[index / 2u], 0xffff0000u >> shift);\n"
                "  atomicOr(&pool[index / 2u], halves(value, 0.0) << shift);"
            )
        return text("keep", put=put, put_half=half)

    @property
    def turning(self) -> str:
        """The text of source/hadamard.wgsl."""
        size = rotation_size(self.D)
        return text("hadamard", TURNED=size, LENGTH=size**-0.5)


def shape_of(op: Operator) -> tuple[int, Shape]:
    """The layer and the shape that an operator has."""
    layer, *constants = op.constants
    return layer, Shape(*constants)


def layer_pages(host: Host, shape: Shape, pool: Tensor, layer: Any) -> tuple[Tensor, list[tuple[str, Any]]]:
    """The layer's part of the pool; tokens and words of a page."""
    page_bytes = host.size("page_bytes")
    page_size = tirx.floordiv(page_bytes, shape.token_bytes)
    numbers = [("page_size", page_size), ("page_words", tirx.floordiv(page_bytes, 4))]
    return pool.skipping(layer * host.size("pages") * page_bytes), numbers


def layer_tails(host: Host, shape: Shape, tails: Tensor, layer: Any) -> Tensor:
    """The layer's part of what waits for its group to be complete."""
    return tails.skipping(layer * host.size("tails") * (shape.heads * shape.D * KEY_GROUP * 2))
