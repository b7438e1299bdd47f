"""Round a model's linear products one after the other, each for the inputs that the rounded ones before it give.

Memory holds one layer: what goes into its products, for all tokens, and one of its matrices at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kvscape.artifact.tensor_file import is_whole, map_tensors
from kvscape.artifact.tensor_writer import write_tensors
from kvscape.calibration.gptq import F64, gptq_codes, influence
from kvscape.calibration.layer_inputs import LayerInputs, batches
from kvscape.calibration.scales import least_error_constants
from kvscape.calibration.windows import Windows
from kvscape.config import ModelConfig
from kvscape.engine.devices.stages import CpuStages
from kvscape.quantization.arrays import F32, Array
from kvscape.quantization.decode import decode
from kvscape.quantization.encode import encode, encode_codes
from kvscape.quantization.scheme import EMBEDDING, HEAD
from kvscape.weights.blocks import in_order
from kvscape.weights.write_weights import Weights

Stored = dict[str, Array]
"""The stored arrays of one tensor, by the names of its parts."""


def rounded_names(weights: Weights) -> list[str]:
    """The tensors that calibration rounds: matrices with codes, but for the embedding and what is exact already."""
    return [
        name
        for name, tensor in weights.tensors.items()
        if len(tensor.shape) > 1 and name != EMBEDDING and not weights.formats[name].is_float
        if tensor.format != weights.formats[name] or not tensor.is_exact
    ]


@dataclass(frozen=True)
class RoundLayers:
    """Rounds what ``rounded_names`` gives, with stages that take ``batch`` tokens at once.

    What is finished lies in ``folder``: the codes of each layer, and the hidden states that go into the next one, so
    that an interrupted calibration goes on there. ``progress(done, total)`` counts products.
    """

    weights: Weights
    config: ModelConfig
    stages: CpuStages
    batch: int
    folder: Path
    progress: Callable[[int, int], None] = lambda done, total: None

    def codes(self, windows: Windows) -> dict[str, Stored]:
        """Return the stored arrays of each tensor that was rounded, mapped from ``folder``."""
        layers = self.config.num_hidden_layers
        first, states = self._begun() or (0, {"x": self._embedded(windows)})
        for layer in range(first, layers):
            states = self._layer(layer, states["x"])
        if HEAD in rounded_names(self.weights) and not is_whole(self._codes("head")):
            self._write("head", {HEAD: self._rounded(HEAD, states["normed"])})
        stored = [self._codes(f"layer-{layer}") for layer in range(layers)] + [self._codes("head")]
        return {name: arrays for path in stored if path.exists() for name, arrays in _by_name(path).items()}

    def _embedded(self, windows: Windows) -> F32:
        x = embedded(self.weights, windows.reshape(-1), self.config.hidden_size)
        return x * np.float32(self.stages.metadata.embedding_scale)

    def _begun(self) -> tuple[int, dict[str, F32]] | None:
        """The first layer that is not finished, and the hidden states that go into it."""
        for layer in range(self.config.num_hidden_layers, 0, -1):
            finished = all(is_whole(self._codes(f"layer-{below}")) for below in range(layer))
            if finished and is_whole(self._hidden(layer)):
                return layer, map_tensors(self._hidden(layer))
        return None

    def _layer(self, layer: int, x: F32) -> dict[str, F32]:
        inputs = LayerInputs(self.weights, self.config, self.stages, layer, x, self.batch)
        count, todo = len(self.stages.metadata.products), set(rounded_names(self.weights))
        rounded: dict[str, Stored] = {}
        for done in range(layer * count, (layer + 1) * count):
            self.progress(done, self.config.num_hidden_layers * count)
            name, seen = inputs.next_inputs()
            if name in todo:
                rounded[name] = self._rounded(name, seen)
            inputs.give(self._matrix(name, rounded.get(name)))
        self._write(f"layer-{layer}", rounded)
        x, normed = inputs.next_states()
        states = {"x": x, "normed": normed} if layer + 1 == self.config.num_hidden_layers else {"x": x}
        write_tensors(self._hidden(layer + 1), states)
        self._hidden(layer).unlink(missing_ok=True)
        return states

    def _rounded(self, name: str, seen: F32) -> Stored:
        """The stored arrays of a matrix for inputs ``seen`` [tokens, columns], block by block of its rows."""
        tensor, fmt, spread = (
            self.weights.tensors[name],
            self.weights.formats[name],
            influence(_hessian(seen, self.batch)),
        )

        def rows_of(rows: slice) -> Stored:
            values = tensor.part(rows).values()
            constants = least_error_constants(values, fmt)
            return encode_codes(gptq_codes(values, constants, fmt, spread), constants, fmt)

        parts = list(in_order(rows_of, self.weights.blocks(name)))
        return {part: np.concatenate([arrays[part] for arrays in parts]) for part in parts[0]}

    def _matrix(self, name: str, stored: Stored | None) -> F32:
        """What the model will multiply with."""
        tensor, fmt = self.weights.tensors[name], self.weights.formats[name]
        if stored is None:
            exact = tensor.values()
            return exact if not fmt.is_float else decode(encode(exact, fmt), fmt)
        return decode(stored, fmt, tensor.shape[1])

    def _write(self, file: str, rounded: dict[str, Stored]) -> None:
        arrays = {f"{name}.{part}": array for name, stored in rounded.items() for part, array in stored.items()}
        write_tensors(self._codes(file), arrays)

    def _codes(self, file: str) -> Path:
        return self.folder / f"{file}.safetensors"

    def _hidden(self, layer: int) -> Path:
        """The states that go into ``layer``."""
        return self.folder / f"hidden-{layer}.safetensors"


def embedded(weights: Weights, token_ids: Array, columns: int) -> F32:
    """Rows of the embedding as it will be rounded: [tokens, columns]."""
    tensor, fmt = weights.tensors[EMBEDDING], weights.formats[EMBEDDING]
    x = np.empty((len(token_ids), columns), np.float32)
    for rows in weights.blocks(EMBEDDING):
        wanted = np.flatnonzero((token_ids >= rows.start) & (token_ids < rows.stop))
        if len(wanted):
            part = tensor.part(rows)
            exact = tensor.format == fmt and tensor.is_exact
            table = part.values() if exact else decode(encode(part.values(), fmt), fmt, columns)
            x[wanted] = table[token_ids[wanted] - rows.start]
    return x


def _hessian(seen: F32, batch: int) -> F64:
    """x^T x, summed in f64 over products of f32."""
    total = np.zeros((seen.shape[1], seen.shape[1]))
    for rows in batches(len(seen), batch):
        total += seen[rows].T @ seen[rows]
    return total


def _by_name(path: Path) -> dict[str, Stored]:
    result: dict[str, Stored] = {}
    for key, array in map_tensors(path).items():
        name, _, part = key.rpartition(".")
        result.setdefault(name, {})[part] = array
    return result
