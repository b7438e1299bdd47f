"""Round a model's linear products one after the other, each for the inputs that the rounded ones before it give.

Memory holds one layer: what goes into its products, for all tokens, and one of its matrices at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kvscape.artifact.tensor_file import is_whole, map_tensors
from kvscape.artifact.tensor_writer import write_tensors
from kvscape.calibration.gptq import damped, gptq_codes, influence
from kvscape.calibration.layer_inputs import LayerInputs, batches
from kvscape.calibration.moments import Moments
from kvscape.calibration.scales import least_error_constants
from kvscape.calibration.windows import Windows
from kvscape.config import CalibrationMethod, ModelConfig
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
    """The tensors that calibration rounds: matrices with codes, but for those that are exact already.

    An embedding is among them where it is the output layer, too, in less than 8 bits.
    """
    names = [name for name, fmt in weights.formats.items() if not fmt.is_float and not _is_exact(weights, name)]
    plain = HEAD in weights.tensors or weights.formats[EMBEDDING].bits >= 8
    return [name for name in names if name != EMBEDDING or not plain]


def _is_exact(weights: Weights, name: str) -> bool:
    return weights.tensors[name].format == weights.formats[name] and weights.tensors[name].is_exact


@dataclass(frozen=True)
class RoundLayers:
    """Rounds what ``rounded_names`` gives, with stages that take ``batch`` tokens at once.

    Two streams of hidden states go through the layers: one through the rounded ones, one through the exact ones.
    What is finished lies in ``folder``: the codes of each layer, and the states that go into the next one, so that an
    interrupted calibration goes on there. ``progress(done, total)`` counts products.
    """

    weights: Weights
    config: ModelConfig
    method: CalibrationMethod
    stages: CpuStages
    batch: int
    folder: Path
    progress: Callable[[int, int], None] = lambda done, total: None

    def codes(self, windows: Windows) -> dict[str, Stored]:
        """Return the stored arrays of each tensor that was rounded, mapped from ``folder``."""
        layers = self.config.num_hidden_layers
        first, states = self._begun() or (0, self._embedded(windows.reshape(-1)))
        for layer in range(first, layers):
            states = self._layer(layer, states)
        for name in {EMBEDDING, HEAD} & set(rounded_names(self.weights)):
            if not is_whole(self._codes("head")):
                self._write("head", {name: self._rounded(name, states["normed"], states["exact_normed"])})
        stored = [self._codes(f"layer-{layer}") for layer in range(layers)] + [self._codes("head")]
        return {name: arrays for path in stored if path.exists() for name, arrays in _by_name(path).items()}

    def _embedded(self, token_ids: Array) -> dict[str, F32]:
        scale = np.float32(self.stages.metadata.embedding_scale)
        streams = {"x": True, "exact": False}
        return {name: scale * embedded(self.weights, token_ids, rounded) for name, rounded in streams.items()}

    def _begun(self) -> tuple[int, dict[str, F32]] | None:
        """The first layer that is not finished, and the states that go into it."""
        for layer in range(self.config.num_hidden_layers, 0, -1):
            finished = all(is_whole(self._codes(f"layer-{below}")) for below in range(layer))
            if finished and is_whole(self._hidden(layer)):
                return layer, map_tensors(self._hidden(layer))
        return None

    def _layer(self, layer: int, states: dict[str, F32]) -> dict[str, F32]:
        rounded, exact = (self._inputs(layer, states[stream]) for stream in ("x", "exact"))
        count, todo = len(self.stages.metadata.products), set(rounded_names(self.weights))
        codes: dict[str, Stored] = {}
        for done in range(layer * count, (layer + 1) * count):
            self.progress(done, self.config.num_hidden_layers * count)
            name, seen = rounded.next_inputs()
            _, wanted = exact.next_inputs()
            if name in todo:
                codes[name] = self._rounded(name, seen, wanted)
            rounded.give(self._matrix(name, codes.get(name)))
            exact.give(self.weights.tensors[name].values())
        self._write(f"layer-{layer}", codes)
        return self._finished(layer, rounded, exact)

    def _inputs(self, layer: int, x: F32) -> LayerInputs:
        return LayerInputs(self.weights, self.config, self.stages, layer, x, self.batch)

    def _finished(self, layer: int, rounded: LayerInputs, exact: LayerInputs) -> dict[str, F32]:
        """Keep the states behind a layer; what the last norm makes of them matters behind the last one only."""
        states: dict[str, F32] = {}
        states["x"], normed = rounded.next_states()
        states["exact"], exact_normed = exact.next_states()
        if layer + 1 == self.config.num_hidden_layers:
            states |= {"normed": normed, "exact_normed": exact_normed}
        write_tensors(self._hidden(layer + 1), states)
        self._hidden(layer).unlink(missing_ok=True)
        return states

    def _rounded(self, name: str, seen: F32, wanted: F32) -> Stored:
        """The stored arrays of a matrix, block by block, for inputs ``seen`` in the place of ``wanted``."""
        tensor, fmt, damping = self.weights.tensors[name], self.weights.formats[name], self.method.damping
        moments = Moments.of((seen[rows], wanted[rows]) for rows in batches(len(seen), self.batch))
        correction, spread = (
            moments.correction(self.method.corrected, damping),
            influence(damped(moments.hessian, damping)),
        )

        def rows_of(rows: slice) -> Stored:
            values = tensor.part(rows).values()
            values = values + values @ correction
            constants = least_error_constants(values, fmt, moments.importance)
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


def embedded(weights: Weights, token_ids: Array, rounded: bool) -> F32:
    """Rows of the embedding, ``rounded`` as a conversion does it or as the source has them: [tokens, hidden]."""
    tensor, fmt = weights.tensors[EMBEDDING], weights.formats[EMBEDDING]
    x = np.empty((len(token_ids), tensor.shape[1]), np.float32)
    for rows in weights.blocks(EMBEDDING):
        wanted = np.flatnonzero((token_ids >= rows.start) & (token_ids < rows.stop))
        if len(wanted):
            table = tensor.part(rows).values()
            if rounded and not _is_exact(weights, EMBEDDING):
                table = decode(encode(table, fmt), fmt, tensor.shape[1])
            x[wanted] = table[token_ids[wanted] - rows.start]
    return x


def _by_name(path: Path) -> dict[str, Stored]:
    result: dict[str, Stored] = {}
    for key, array in map_tensors(path).items():
        name, _, part = key.rpartition(".")
        result.setdefault(name, {})[part] = array
    return result
