"""A decoder layer cut at its linear products: what lies between two of them is a stage, a function of its own.

Calibration multiplies itself, with weights that it rounds by and by, and sees what goes into every product. The layer
is the model's own module, so that every architecture can be calibrated.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tvm.relax.frontend import nn

from kvscape.config import KVPrecision, LayerGroup, ModelConfig
from kvscape.models import find_model
from kvscape.models.attention import Place, rope_table
from kvscape.models.layers import Linear, RMSNorm, Weights
from kvscape.models.ops import Tensor
from kvscape.models.rope import rotary
from kvscape.models.step import Cache, Step
from kvscape.quantization.layouts import Layout

PRECISION = KVPrecision.parse("f32")


class ReachedError(Exception):
    """Ends the tracing of a stage where its product would begin."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = x


@dataclass
class Trace:
    """The products that are known, by name; the first one that is not is what the stage leads to."""

    products: Mapping[str, Tensor] = field(default_factory=dict)


class Cut(nn.Module):  # type: ignore[misc]
    """Stands in a linear product's place."""

    def __init__(self, name: str, linear: Linear, trace: Trace) -> None:
        super().__init__()
        self.name, self.rows, self.columns, self.trace = name, linear.rows, linear.columns, trace

    def forward(self, x: Tensor) -> Tensor:
        if self.name not in self.trace.products:
            raise ReachedError(x)
        return self.trace.products[self.name]


class CutLayer(nn.Module):  # type: ignore[misc]
    """One layer of the group's kind, without its linear products; ``cuts`` are in the order of the code."""

    def __init__(self, config: ModelConfig, layout: Layout, group: LayerGroup) -> None:
        super().__init__()
        weights = Weights(defaultdict(lambda: "f32"), layout)
        self.layer = find_model(config.model_type).layer(config, weights, "layer", PRECISION)  # type: ignore[attr-defined]
        self.rotary, self.trace = rotary(config, group), Trace()
        self.cuts = list(_cut(self.layer, "", self.trace))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, step: Step, cache: Cache, products: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Of hidden states ``x``, what goes into the first product that is not among ``products``; with all of them
        the next hidden states, and these as the model's last norm leaves them."""
        self.trace.products = products
        ropes = [rope_table(self.rotary, at, step.seen) for at in (step.positions, cache.sink_positions)]
        try:
            delta, residual = self.layer(self.layer.input_layernorm(x), x, step, Place(cache, 0, *ropes))
        except ReachedError as reached:
            return (reached.x,)
        normed, x = self.norm.add(delta, residual)
        return x, normed


def _cut(module: Any, path: str, trace: Trace) -> Iterator[Cut]:
    """Put a cut in the place of every linear product below ``module``."""
    for name, child in list(vars(module).items()):
        if isinstance(child, Linear):
            cut = Cut(path + name, child, trace)
            setattr(module, name, cut)
            yield cut
        elif isinstance(child, nn.Module):
            yield from _cut(child, f"{path}{name}.", trace)
