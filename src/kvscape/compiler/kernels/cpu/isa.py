"""The integer dot product of a group of columns on each instruction set, as one vector expression.

Codes lie in the packed layout (quantization/layouts): ``rows`` weight rows side by side, four codes of one row in each
32-bit lane. Activations are signed 8-bit codes in [-127, 127], four of which are broadcast to all lanes.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.packed import signed_step, unsigned_steps
from kvscape.compiler.kernels.cpu.vector import Expr, load, splat
from kvscape.quantization.format import Format

SIGNED_STEPS = 8  # of four columns: all formats of 8 bits have groups of 32


class Isa(Protocol):
    """Both products give int32 x rows: the sums of code x activation over one group, from activation ``k`` on.

    ``dot_unsigned`` takes codes of 3 or 4 bits as they are, ``dot_signed`` codes of 8 bits, less their zero point.
    """

    @property
    def name(self) -> str: ...
    @property
    def rows(self) -> int: ...
    def dot_unsigned(self, fmt: Format, codes: Any, at: Expr, x: Any, row: Expr, k: Expr) -> Expr: ...
    def dot_signed(self, codes: Any, at: Expr, x: Any, row: Expr, k: Expr, x_sum: Expr) -> Expr: ...


def _four(x: Any, row: Expr, k: Expr, lanes: int) -> Expr:
    """Four consecutive activations in every 32-bit lane."""
    word = T.reinterpret("int32", load(x, row, k, lanes=4))
    return T.reinterpret(f"int8x{4 * lanes}", splat(word, lanes))


def _part(vector: Expr, lanes: int, index: int) -> Expr:
    return T.Shuffle([vector], [T.int32(lanes * index + i) for i in range(lanes)])


@dataclass(frozen=True)
class Avx2:
    """pmaddubsw multiplies unsigned by signed bytes and adds pairs with saturation to 16 bits.

    Codes of 4 bits: 8 sums of 2 x 15 x 127 stay below 32,767, so a whole group is added in 16 bits; of 3 bits: 10 sums
    of 2 x 7 x 127. 8-bit codes: |w| times x with w's sign stays below 2 x 127 x 127 = 32,258, and is widened at once.
    """

    name: str = "avx2"
    rows: int = 8

    def dot_unsigned(self, fmt: Format, codes: Any, at: Expr, x: Any, row: Expr, k: Expr) -> Expr:
        total: Expr = None
        for offset, step in unsigned_steps(fmt.bits, codes, at, 32):
            pairs = self._multiply_pairs(step, _four(x, row, k + offset, 8))
            total = pairs if total is None else total + pairs
        return self._add_pairs(total)

    def dot_signed(self, codes: Any, at: Expr, x: Any, row: Expr, k: Expr, x_sum: Expr) -> Expr:
        total: Expr = None
        for step in range(SIGNED_STEPS):
            weight = signed_step(codes, at, step, 32)
            magnitude = T.call_llvm_pure_intrin("int8x32", "llvm.abs", weight, T.bool(False))
            signed = T.call_llvm_pure_intrin("int8x32", "llvm.x86.avx2.psign.b", _four(x, row, k + 4 * step, 8), weight)
            sums = self._add_pairs(self._multiply_pairs(T.reinterpret("uint8x32", magnitude), signed))
            total = sums if total is None else total + sums
        return total

    @staticmethod
    def _multiply_pairs(unsigned: Expr, signed: Expr) -> Expr:
        return T.call_llvm_pure_intrin("int16x16", "llvm.x86.avx2.pmadd.ub.sw", unsigned, signed)

    @staticmethod
    def _add_pairs(pairs: Expr) -> Expr:
        return T.call_llvm_pure_intrin("int32x8", "llvm.x86.avx2.pmadd.wd", pairs, splat(T.int16(1), 16))


@dataclass(frozen=True)
class Vnni:
    """vpdpbusd adds four products of unsigned and signed bytes to a 32-bit lane, exactly; a vector has ``rows`` lanes.

    8-bit codes are signed: flipping the top bit adds 128 to them, and 128 x (sum of activations) is taken off first.
    """

    name: str
    rows: int

    def dot_unsigned(self, fmt: Format, codes: Any, at: Expr, x: Any, row: Expr, k: Expr) -> Expr:
        total = splat(T.int32(0), self.rows)
        for offset, step in unsigned_steps(fmt.bits, codes, at, 4 * self.rows):
            total = self._accumulate(total, step, _four(x, row, k + offset, self.rows))
        return total

    def dot_signed(self, codes: Any, at: Expr, x: Any, row: Expr, k: Expr, x_sum: Expr) -> Expr:
        nbytes = 4 * self.rows
        total = splat(T.int32(-128) * x_sum, self.rows)
        for step in range(SIGNED_STEPS):
            flipped = T.bitwise_xor(load(codes, at + step * nbytes, lanes=nbytes), splat(T.uint8(128), nbytes))
            total = self._accumulate(total, flipped, _four(x, row, k + 4 * step, self.rows))
        return total

    def _accumulate(self, total: Expr, unsigned: Expr, signed: Expr) -> Expr:
        intrinsic = f"llvm.x86.avx512.vpdpbusd.{32 * self.rows}"
        return T.call_llvm_pure_intrin(f"int32x{self.rows}", intrinsic, total, unsigned, signed)


@dataclass(frozen=True)
class Neon:
    """sdot adds four products of signed bytes to each of four 32-bit lanes, exactly: two of them make eight rows.

    Codes of 3 and 4 bits are signed bytes as they are.
    """

    name: str = "neon"
    rows: int = 8

    def dot_unsigned(self, fmt: Format, codes: Any, at: Expr, x: Any, row: Expr, k: Expr) -> Expr:
        steps = unsigned_steps(fmt.bits, codes, at, 32)
        signed = [(offset, T.reinterpret("int8x32", step)) for offset, step in steps]
        return self._sum(signed, x, row, k)

    def dot_signed(self, codes: Any, at: Expr, x: Any, row: Expr, k: Expr, x_sum: Expr) -> Expr:
        return self._sum([(4 * step, signed_step(codes, at, step, 32)) for step in range(SIGNED_STEPS)], x, row, k)

    def _sum(self, steps: list[tuple[int, Expr]], x: Any, row: Expr, k: Expr) -> Expr:
        halves = [splat(T.int32(0), 4), splat(T.int32(0), 4)]
        for offset, weight in steps:
            four = self._four(x, row, k, offset, last=4 * len(steps) - 16)
            halves = [self._accumulate(total, _part(weight, 16, i), four) for i, total in enumerate(halves)]
        return T.Shuffle(halves, [T.int32(i) for i in range(8)])

    @staticmethod
    def _four(x: Any, row: Expr, k: Expr, offset: int, last: int) -> Expr:
        """Four activations in every lane, out of a register of sixteen: sdot names the lane, and no load repeats.

        The register with the group's end begins at ``last``: what follows may lie outside.
        """
        start = min(offset // 16 * 16, last)
        words = T.reinterpret("int32x4", load(x, row, k + start, lanes=16))
        return T.reinterpret("int8x16", T.Shuffle([words], [T.int32((offset - start) // 4)] * 4))

    @staticmethod
    def _accumulate(total: Expr, weight: Expr, x: Expr) -> Expr:
        return T.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.sdot.v4i32.v16i8", total, weight, x)


@dataclass(frozen=True)
class Generic:
    """Plain widening multiplications: right on any processor LLVM knows, and left to LLVM to make fast."""

    name: str = "generic"
    rows: int = 8

    def dot_unsigned(self, fmt: Format, codes: Any, at: Expr, x: Any, row: Expr, k: Expr) -> Expr:
        steps = unsigned_steps(fmt.bits, codes, at, 32)
        return self._sum([self._products(step, _four(x, row, k + offset, 8)) for offset, step in steps])

    def dot_signed(self, codes: Any, at: Expr, x: Any, row: Expr, k: Expr, x_sum: Expr) -> Expr:
        steps = range(SIGNED_STEPS)
        return self._sum([self._products(signed_step(codes, at, s, 32), _four(x, row, k + 4 * s, 8)) for s in steps])

    @staticmethod
    def _products(weight: Expr, x: Expr) -> Expr:
        return T.cast(weight, "int32x32") * T.cast(x, "int32x32")

    @staticmethod
    def _sum(products: list[Expr]) -> Expr:
        total = products[0]
        for product in products[1:]:
            total = total + product
        quarter = [T.Shuffle([total], [T.int32(4 * row + i) for row in range(8)]) for i in range(4)]
        return (quarter[0] + quarter[1]) + (quarter[2] + quarter[3])


ISAS: dict[str, Isa] = {
    isa.name: isa for isa in (Vnni("avx512vnni", 16), Vnni("avxvnni", 8), Avx2(), Neon(), Generic())
}
