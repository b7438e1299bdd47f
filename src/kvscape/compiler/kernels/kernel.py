"""What stands in for one operator call: a TIR function, its arguments, and what it changes in place."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kvscape.quantization.format import FORMATS, Format

Scratch = tuple[tuple[Any, ...], str]


@dataclass(frozen=True)
class Operator:
    """An operator call of a model: tensors are expressions, constants are strings and numbers, in order."""

    name: str
    tensors: tuple[Any, ...]
    constants: tuple[Any, ...]
    results: tuple[Any, ...] = ()
    """Types of the results."""

    def shape(self, tensor: int) -> tuple[Any, ...]:
        """The tensor's shape; static dimensions as int."""
        return tuple(_static(dimension) for dimension in self.tensors[tensor].ty.shape.values)

    @property
    def facts(self) -> list[str]:
        """All that a kernel can be made from, as text: constants, and the types of tensors and results."""
        return [*map(repr, self.constants), *(str(tensor.ty) for tensor in self.tensors), *map(str, self.results)]

    @property
    def result_dtype(self) -> str:
        """The type of the first result's numbers."""
        return str(self.results[0].dtype)

    @property
    def format(self) -> Format:
        """The weight format among the constants."""
        return FORMATS[next(value for value in self.constants if value in FORMATS)]


@dataclass(frozen=True)
class Kernel:
    """``function`` builds the TIR; ``key`` names it, equal keys are one function.

    ``arguments`` are the tensors and integers it takes; ``inplace`` says for each result which argument it aliases
    (-1: none); without it, all results are new. ``scratch`` has shape and dtype of tensors that it needs besides: they
    follow the results.
    """

    key: str
    function: Callable[[], Any]
    arguments: tuple[Any, ...]
    inplace: tuple[int, ...] = field(default=())
    scratch: tuple[Scratch, ...] = ()


def _static(dimension: Any) -> Any:
    return int(dimension.value) if hasattr(dimension, "value") else dimension
