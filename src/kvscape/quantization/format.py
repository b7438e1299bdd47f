"""What a weight format is, as data. Names and codes follow MLC-LLM."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kvscape.errors import ConfigError, near_match


@dataclass(frozen=True)
class Format:
    """How a matrix [N, K] is stored: plain floats, or codes of ``bits`` bits in groups along K.

    Symmetric codes mean ``(code - max_int) * scale``; asymmetric ones ``code * scale + minimum``. Codes lie in uint32
    words, the first in the lowest bits, and each group begins a word; scales and minima are of ``scale_dtype``. The
    last group of a row has as many words as the others: where it has fewer weights, codes 0 follow that mean nothing.
    """

    name: str
    bits: int
    group_size: int = 32
    symmetric: bool = True
    scale_dtype: str = "float16"

    @property
    def is_float(self) -> bool:
        return self.bits >= 16

    @property
    def max_int(self) -> int:
        """The code of zero in a symmetric format."""
        return (1 << (self.bits - 1)) - 1

    @property
    def top_code(self) -> int:
        """The largest code that kernels take: all bits, but for 8-bit codes, which they keep as signed bytes."""
        return 2 * self.max_int if self.symmetric and self.bits == 8 else (1 << self.bits) - 1

    @property
    def codes_per_word(self) -> int:
        return 32 // self.bits

    @property
    def words_per_group(self) -> int:
        return self.group_size // self.codes_per_word

    @property
    def constants(self) -> tuple[str, ...]:
        """The names of what each group has beside its codes."""
        return ("q_scale",) if self.symmetric else ("q_scale", "q_min")

    @property
    def bits_per_weight(self) -> float:
        """Storage per weight of whole groups: words, scales and minima."""
        if self.is_float:
            return self.bits
        constants = len(self.constants) * int(self.scale_dtype.removeprefix("float"))
        return (32 * self.words_per_group + constants) / self.group_size

    def groups(self, columns: int) -> int:
        """How many groups hold a row of ``columns`` weights, the last of them perhaps in part."""
        return -(-columns // self.group_size)

    def padded(self, columns: int) -> int:
        """How many codes a row of ``columns`` weights takes: those of whole groups."""
        return self.groups(columns) * self.group_size

    def shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return dtype and shape of each stored array of a tensor of ``shape``."""
        if self.is_float:
            return {"weight": (f"float{self.bits}", shape)}
        *rows, columns = shape
        groups = self.groups(columns)
        words = ("uint32", (*rows, groups * self.words_per_group))
        return {"q_weight": words, **dict.fromkeys(self.constants, (self.scale_dtype, (*rows, groups)))}


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        fmt.name: fmt
        for fmt in (
            Format("f32", 32, group_size=1),
            Format("f16", 16, group_size=1),
            Format("q8f32_1", 8, scale_dtype="float32"),
            Format("q8f16_1", 8),
            Format("q4f32_1", 4, scale_dtype="float32"),
            Format("q4af16_1", 4, symmetric=False),
            Format("q4f16_1", 4),
            Format("q3f16_1", 3, group_size=40),
        )
    }
)


def find_format(name: str) -> Format:
    """Return a format by name; raise ConfigError naming the near match."""
    if name not in FORMATS:
        raise ConfigError(f"unknown weight format {name!r}", "", near_match(name, FORMATS))
    return FORMATS[name]


def most_precise(formats: Iterable[Format]) -> Format:
    """Return the format that keeps most bits of each weight."""
    return max(formats, key=lambda fmt: fmt.bits_per_weight)
