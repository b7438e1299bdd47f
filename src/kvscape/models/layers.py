"""Layers that models share; weights are in the target's packed layout."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm.relax.frontend import nn

from kvscape.models.ops import Tensor, call, placeholder
from kvscape.quantization.format import FORMATS
from kvscape.quantization.layouts import Layout


@dataclass(frozen=True)
class Weights:
    """The format of each tensor, by name, and the layout they are packed in."""

    formats: Mapping[str, str]
    layout: Layout


class PackedWeight(nn.Module):  # type: ignore[misc]
    """A matrix [rows, columns] as the target's kernels read it; its parameters are the layout's arrays."""

    def __init__(self, weights: Weights, name: str, rows: int, columns: int) -> None:
        super().__init__()
        self.format = weights.formats[name]
        self.rows, self.columns = rows, columns
        self.parameter_names: list[str] = []
        for key, (shape, dtype) in weights.layout.shapes(FORMATS[self.format], rows, columns).items():
            setattr(self, key, nn.Parameter(shape, dtype))
            self.parameter_names.append(key)

    def arguments(self) -> list[Any]:
        """The format, the logical shape and the arrays, as operators take them."""
        return [self.format, self.rows, self.columns, *(getattr(self, key) for key in self.parameter_names)]


class Linear(PackedWeight):
    """y = x W^T."""

    def forward(self, x: Tensor) -> Tensor:
        return call("linear", [x, *self.arguments()], placeholder([x.shape[0], self.rows]))


class Embedding(PackedWeight):
    """Rows of W; with tied weights the same matrix gives the logits."""

    def forward(self, token_ids: Tensor) -> Tensor:
        return call("embedding", [token_ids, *self.arguments()], placeholder([token_ids.shape[0], self.columns]))

    def logits(self, x: Tensor) -> Tensor:
        return call("linear", [x, *self.arguments()], placeholder([x.shape[0], self.rows]))


class RMSNorm(nn.Module):  # type: ignore[misc]
    """x / rms(x) * weight, in f32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter((size,), "float32")
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return call("rms_norm", [x, self.weight, self.eps], placeholder(x.shape))

    def add(self, delta: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Normalize residual + delta; return the result and the sum."""
        shapes = [placeholder(residual.shape), placeholder(residual.shape)]
        normed, total = call("add_rms_norm", [delta, residual, self.weight, self.eps], shapes)
        return normed, total
