"""Layers that models share; weights are in the target's packed layout."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tvm.relax.frontend import nn

from kvscape.config import ModelConfig
from kvscape.models.ops import Tensor, call, placeholder
from kvscape.quantization.format import FORMATS
from kvscape.quantization.layouts import Layout

# The operator of each gated activation, by Hugging Face's name.
GATED: Mapping[str, str] = MappingProxyType({"silu": "swiglu", "gelu_pytorch_tanh": "geglu"})


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


class Bias(nn.Module):  # type: ignore[misc]
    """What is added to every row, in f32."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter((size,), "float32")

    def forward(self, x: Tensor) -> Tensor:
        return call("add_bias", [x, self.weight], placeholder(x.shape))


class Linear(PackedWeight):
    """y = x W^T, or x W^T + b."""

    def __init__(self, weights: Weights, name: str, rows: int, columns: int, bias: bool = False) -> None:
        super().__init__(weights, name, rows, columns)
        if bias:
            self.bias = Bias(rows)
        self.has_bias = bias

    def forward(self, x: Tensor) -> Tensor:
        y = call("linear", [x, *self.arguments()], placeholder([x.shape[0], self.rows]))
        return self.bias(y) if self.has_bias else y


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


class GatedMLP(nn.Module):  # type: ignore[misc]
    """down(act(gate) * up); gate and up are one product (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, config: ModelConfig, weights: Weights, name: str) -> None:
        super().__init__()
        self.size, self.gated = config.intermediate_size, GATED[config.hidden_act]
        self.gate_up_proj = Linear(weights, f"{name}.gate_up_proj", 2 * self.size, config.hidden_size)
        self.down_proj = Linear(weights, f"{name}.down_proj", config.hidden_size, self.size)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(call(self.gated, [self.gate_up_proj(x)], placeholder([x.shape[0], self.size])))


def scaled(x: Tensor, factor: float) -> Tensor:
    return call("scale", [x, factor], placeholder(x.shape))


def soft_capped(x: Tensor, cap: float) -> Tensor:
    """cap * tanh(x / cap): x where it is small, never beyond the cap."""
    return call("soft_cap", [x, cap], placeholder(x.shape))
