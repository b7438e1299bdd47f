"""What a weight format is, as data. Names and codes follow MLC-LLM."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kvscape.errors import ConfigError, near_match


@dataclass(frozen=True)
class Format:
    """How a matrix [N, K] is stored: plain floats, or codes of ``bits`` bits in groups along K.

    Symmetric codes mean ``(code - max_int) * scale``; asymmetric ones ``code * scale + minimum``. Codes lie in uint32
    words, the first in the lowest bits; scales and minima are f16.
    """

    name: str
    bits: int
    group_size: int = 32
    symmetric: bool = True

    @property
    def is_float(self) -> bool:
        return self.bits >= 16

    @property
    def max_int(self) -> int:
        """The code of zero in a symmetric format."""
        return (1 << (self.bits - 1)) - 1

    @property
    def codes_per_word(self) -> int:
        return 32 // self.bits

    @property
    def bits_per_weight(self) -> float:
        """Storage per weight, scales and minima included."""
        if self.is_float:
            return self.bits
        return self.bits + (16 if self.symmetric else 32) / self.group_size

    def check_columns(self, columns: int) -> None:
        """Raise ConfigError unless rows of ``columns`` weights split into whole groups."""
        if not self.is_float and columns % self.group_size:
            raise ConfigError(
                f"a matrix with rows of {columns} weights cannot be stored as {self.name}",
                f"its groups hold {self.group_size} weights and {columns} is not a multiple",
                "use the quantization q0f16 or q0f32",
            )

    def shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return dtype and shape of each stored array of a tensor of ``shape``; ConfigError if it does not fit."""
        if self.is_float:
            return {"weight": (f"float{self.bits}", shape)}
        *rows, columns = shape
        self.check_columns(columns)
        groups = (*rows, columns // self.group_size)
        result = {"q_weight": ("uint32", (*rows, columns // self.codes_per_word)), "q_scale": ("float16", groups)}
        return result if self.symmetric else {**result, "q_min": ("float16", groups)}


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        fmt.name: fmt
        for fmt in (
            Format("f32", 32, group_size=1),
            Format("f16", 16, group_size=1),
            Format("q8f16_1", 8),
            Format("q4af16_1", 4, symmetric=False),
            Format("q4f16_1", 4),
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
