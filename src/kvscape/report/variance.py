"""Main effects of the knobs on a measure, and the share of its variance that each explains.

The method: the logarithm of the measure is fitted by least squares with a sum of one effect for each knob. A knob
with few values has an effect for each; a number with many has a parabola in its logarithm. A knob's share is what it
adds to the explained variance, averaged over all orders in which the knobs can enter (Lindeman, Merenda and Gold 1980;
Shapley's value). On a full grid this is the classical analysis of variance; on any other set of points the shares still
add up to what the sum explains. The rest is interaction between knobs, and noise.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kvscape.report.encodings import ordered

Matrix = NDArray[np.float64]

_MOST_LEVELS = 6
_MOST_KNOBS = 12  # of which each subset is fitted
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True)
class Effects:
    """What moves one measure over ``points`` points.

    ``shares`` adds to ``explained``, at most 1. ``levels`` are ratios to the average: 1.2 is 20 % more than it.
    """

    measure: str
    points: int
    explained: float
    shares: Mapping[str, float]
    levels: Mapping[str, Sequence[tuple[Any, float]]]


def effects(frame: pl.DataFrame, measure: str, knobs: Sequence[str]) -> Effects | None:
    """Decompose ``measure`` over the rows that have it; None where it is the same everywhere or there are too few rows.

    There must be more rows than the sum has free terms, or anything would be explained.
    """
    rows = frame.drop_nulls([measure]).filter(pl.col(measure) > 0)
    varied = [name for name in knobs if rows[name].n_unique() > 1]
    y = np.log(rows[measure].to_numpy())
    columns = {name: _columns(rows, name) for name in varied}
    if (
        not 0 < len(varied) <= _MOST_KNOBS
        or len(y) < 3
        or y.var() < _LEAST_VARIANCE
        or _rank(columns.values(), len(y)) >= len(y) - 1
    ):
        return None
    gains = {subset: _explained(y, [columns[name] for name in subset]) for subset in _subsets(varied)}
    everything = gains[frozenset(varied)]
    shares = {name: _shapley(gains, varied, name) for name in varied}
    return Effects(measure, len(y), everything, shares, _levels(rows, columns, y))


def _subsets(names: Sequence[str]) -> list[frozenset[str]]:
    return [frozenset(chosen) for size in range(len(names) + 1) for chosen in combinations(names, size)]


def _shapley(gains: Mapping[frozenset[str], float], names: Sequence[str], name: str) -> float:
    """What ``name`` adds to a set of the others, each size of set weighing the same."""
    total, count = 0.0, len(names)
    for before in gains:
        if name not in before:
            weight = math.factorial(len(before)) * math.factorial(count - len(before) - 1) / math.factorial(count)
            total += weight * (gains[before | {name}] - gains[before])
    return max(0.0, total)


def _columns(rows: pl.DataFrame, name: str) -> Matrix:
    """A knob's terms, each with mean 0: one for each value, or two of the logarithm where there are many numbers."""
    values = rows[name]
    if values.dtype.is_numeric() and values.n_unique() > _MOST_LEVELS:
        values = values.fill_null(0)  # left to its default
    if values.dtype.is_numeric() and values.n_unique() > _MOST_LEVELS:
        off = (values.to_numpy() <= 0).astype(float)
        size = np.log2(np.maximum(values.to_numpy().astype(float), 1)) * (1 - off)
        terms = np.stack([size, size**2, off], axis=1)
    else:
        terms = np.stack([values.eq_missing(level).to_numpy().astype(float) for level in ordered(name, rows)], axis=1)
    return np.asarray(terms - terms.mean(axis=0))


def _rank(columns: Any, rows: int) -> int:
    found = list(columns)
    return int(np.linalg.matrix_rank(np.concatenate(found, axis=1))) if found else rows


def _fit(y: Matrix, columns: Sequence[Matrix]) -> tuple[Matrix, Matrix]:
    """Coefficients and fitted values of ``y`` less its mean; the shortest coefficients where several fit as well."""
    terms = np.concatenate(columns, axis=1)
    coefficients = np.linalg.lstsq(terms, y - y.mean(), rcond=None)[0]
    return coefficients, terms @ coefficients


def _explained(y: Matrix, columns: Sequence[Matrix]) -> float:
    return float(_fit(y, columns)[1].var() / y.var()) if columns else 0.0


def _levels(rows: pl.DataFrame, columns: Mapping[str, Matrix], y: Matrix) -> dict[str, list[tuple[Any, float]]]:
    """The fitted effect of each value of each knob."""
    coefficients, found, start = _fit(y, list(columns.values()))[0], {}, 0
    for name, terms in columns.items():
        effect = terms @ coefficients[start : start + terms.shape[1]]
        start += terms.shape[1]
        at = {value: float(effect[place]) for place, value in enumerate(rows[name].to_list())}
        found[name] = [(value, math.exp(at[value])) for value in ordered(name, rows)]
    return found
