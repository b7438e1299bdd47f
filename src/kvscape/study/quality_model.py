"""Perplexities that were not measured, from those that were: what each choice costs adds up in their logarithm."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kvscape.analysis.linear_fit import student_quantile
from kvscape.analysis.schedule import FloatArray
from kvscape.config import DesignPoint, adapter_name
from kvscape.results import PerplexityRecord

# How far choices fail to add up where too few points were measured to see it.
_UNKNOWN_ERROR = 0.02
_LEAST_ERROR = 0.002

Cell = tuple[str, str, int, int]
"""Format, KV precision, sinks, window: what a perplexity belongs to."""


def cell(parameters: Mapping[str, object]) -> Cell:
    """The quality of a design point's flat parameters."""
    names = ("subject", "model", "quantization", "embedding_quantization", "activation")
    fmt = " ".join([*(str(parameters[name]) for name in names), str(parameters.get("calibrate"))])
    fmt += _arithmetic(str(parameters.get("device") or "cpu"))
    sinks, window = (int(str(parameters[name])) for name in ("attention_sink_size", "sliding_window_size"))
    return fmt, str(parameters["kv_dtype"]), sinks, window


def _arithmetic(device: str) -> str:
    """A GPU's activations are not rounded to 8 bits."""
    return " cuda" if device.startswith("cuda") else " webgpu" if adapter_name(device) is not None else ""


@dataclass(frozen=True)
class PredictedQuality:
    """A perplexity with its 95 % interval; of a measured one there is none."""

    perplexity: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class QualityModel:
    """Measured perplexities of one text and protocol by cell."""

    measured: Mapping[Cell, float]

    @classmethod
    def of(cls, perplexities: Iterable[PerplexityRecord]) -> "QualityModel":
        """Take those of the text and protocol that most have; others do not compare."""
        scored = [record for record in perplexities if record.status == "ok"]
        kinds = [record.measure for record in scored]
        most = max(kinds, key=kinds.count, default=None)
        chosen = (record for record, kind in zip(scored, kinds, strict=True) if kind == most)
        return cls({cell(record.parameters): record.perplexity for record in chosen})

    def predict(self, points: Sequence[DesignPoint]) -> list[PredictedQuality | None]:
        """Perplexity of each point; None where the measured ones do not tell.

        They do when a sum of them differs from the wanted one in nothing: q4 with int8 KV from q4 with f16, q8 with
        int8 and q8 with f16. Windows between two measured ones are taken on the line in their logarithms.
        """
        wanted = [cell(point.flat()) for point in points]
        found = {one: self._one(one) for one in set(wanted)}
        return [found[one] for one in wanted]

    def held_out(self, point: DesignPoint) -> PredictedQuality | None:
        """Perplexity of a point from those of all others, though its own be measured."""
        own = cell(point.flat())
        return QualityModel({one: value for one, value in self.measured.items() if one != own})._one(own)

    def _one(self, wanted: Cell) -> PredictedQuality | None:
        if wanted in self.measured:
            return PredictedQuality(self.measured[wanted], None)
        columns = _columns(self.measured)
        row = _row(wanted, columns)
        if row is None:
            return None
        terms = np.stack([known for one in self.measured if (known := _row(one, columns)) is not None])
        inverse = np.asarray(np.linalg.pinv(terms), np.float64)
        if not np.allclose(row @ inverse @ terms, row, atol=1e-6):
            return None
        logs = np.log(list(self.measured.values()))
        value = float(row @ inverse @ logs)
        spread = _error(terms, inverse, logs) * math.sqrt(1 + float((row @ inverse) @ (row @ inverse)))
        return PredictedQuality(math.exp(value), (math.exp(value - spread), math.exp(value + spread)))


def _error(terms: FloatArray, inverse: FloatArray, logs: FloatArray) -> float:
    """Half of the 95 % interval of one logarithm around the sum."""
    freedom = len(logs) - int(np.linalg.matrix_rank(terms))
    if freedom < 1:
        return 2 * _UNKNOWN_ERROR
    left = logs - terms @ inverse @ logs
    noise = max(_LEAST_ERROR, math.sqrt(float(left @ left) / freedom))
    return student_quantile(0.975, freedom) * noise


@dataclass(frozen=True)
class _Columns:
    formats: tuple[str, ...]
    precisions: tuple[str, ...]
    windows: tuple[tuple[int, int], ...]


def _columns(cells: Iterable[Cell]) -> _Columns:
    known = list(cells)
    return _Columns(
        tuple(dict.fromkeys(fmt for fmt, *_ in known)),
        tuple(dict.fromkeys(precision for _, precision, *_ in known)),
        tuple(dict.fromkeys((sinks, window) for *_, sinks, window in known)),
    )


def _row(one: Cell, columns: _Columns) -> FloatArray | None:
    """1 for what a cell is made of; two parts of 1 for a window between two; None for what was never measured."""
    fmt, precision, sinks, window = one
    place = _window_shares(sinks, window, columns.windows)
    if fmt not in columns.formats or precision not in columns.precisions or place is None:
        return None
    own = [float(fmt == name) for name in columns.formats], [float(precision == name) for name in columns.precisions]
    return np.array([*own[0], *own[1], *place])


def _window_shares(sinks: int, window: int, known: Sequence[tuple[int, int]]) -> list[float] | None:
    if (sinks, window) in known:
        return [float((sinks, window) == place) for place in known]
    sizes = sorted(size for others, size in known if others == sinks and size != -1)
    below, above = [size for size in sizes if size < window], [size for size in sizes if size > window]
    if window == -1 or not below or not above:
        return None
    share = math.log(window / below[-1]) / math.log(above[0] / below[-1])
    shares = {(sinks, below[-1]): 1 - share, (sinks, above[0]): share}
    return [shares.get(place, 0.0) for place in known]
