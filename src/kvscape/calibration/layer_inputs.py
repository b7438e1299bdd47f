"""What goes into the linear products of one layer, for all tokens of the calibration text."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from kvscape.config import ModelConfig
from kvscape.engine.devices.stages import CpuStages
from kvscape.quantization.arrays import F32
from kvscape.weights.write_weights import Weights


def batches(tokens: int, batch: int) -> Iterator[slice]:
    return (slice(start, start + batch) for start in range(0, tokens, batch))


@dataclass
class LayerInputs:
    """Goes through layer ``number`` product by product, from hidden states ``x`` [tokens, hidden], ``batch`` tokens at
    once: of each product the inputs are asked for, then its rounded matrix is given.
    """

    weights: Weights
    config: ModelConfig
    stages: CpuStages
    number: int
    x: F32
    batch: int
    _inputs: dict[str, F32] = field(default_factory=dict)
    _matrices: dict[str, F32] = field(default_factory=dict)

    def __post_init__(self) -> None:
        groups = self.config.layer_groups
        self._group = next(index for index, group in enumerate(groups) if self.number in group.layers)
        self._prefix = f"model.layers.{self.number}."
        vectors = [name for name, tensor in self.weights.tensors.items() if len(tensor.shape) == 1]
        self._norms = {self._short(name): self.weights.tensors[name].values() for name in vectors if self._is_own(name)}

    def next_inputs(self) -> tuple[str, F32]:
        """The name of the next product's matrix, and what goes into it: [tokens, columns]."""
        product = self.stages.metadata.products[len(self._matrices)]
        seen = np.empty((len(self.x), product.columns), np.float32)
        for rows in batches(len(self.x), self.batch):
            (seen[rows],) = self._run(rows)
        self._inputs[product.name] = seen
        return self._prefix + product.name, seen

    def give(self, matrix: F32) -> None:
        """Go on with ``matrix`` [rows, columns] in the next product; what no later stage needs is forgotten."""
        products = self.stages.metadata.products
        self._matrices[products[len(self._matrices)].name] = matrix
        later = range(len(self._matrices), len(products) + 1)
        for name in list(self._inputs):
            if not any(self.stages.needs(self._group, stage, name) for stage in later):
                del self._inputs[name]

    def next_states(self) -> tuple[F32, F32]:
        """The hidden states behind the layer, and the same as the model's last norm leaves them."""
        x, normed = np.empty_like(self.x), np.empty_like(self.x)
        for rows in batches(len(self.x), self.batch):
            x[rows], normed[rows] = self._run(rows)
        return x, normed

    def _run(self, rows: slice) -> tuple[F32, ...]:
        stage = len(self._matrices)
        needed = [name for name in self._inputs if self.stages.needs(self._group, stage, name)]
        products = {name: self._product(name, rows) for name in needed}
        return self.stages.run(self._group, stage, {"x": self.x[rows], **products, **self._norms})

    def _product(self, name: str, rows: slice) -> F32:
        product: F32 = self._inputs[name][rows] @ self._matrices[name].T
        bias = self.weights.tensors.get(f"{self._prefix}{name}.bias")
        return product if bias is None else product + bias.values()

    def _is_own(self, name: str) -> bool:
        return name.startswith(self._prefix) or name == "model.norm"

    def _short(self, name: str) -> str:
        return "norm" if name == "model.norm" else "layer." + name.removeprefix(self._prefix)
