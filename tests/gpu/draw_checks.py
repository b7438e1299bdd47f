"""Tokens that are drawn, against numpy: the same ones, of every shape of a distribution and whatever the logits are."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from checked import Array, Checked

from kvscape.engine.devices.device import Draw
from kvscape.engine.draws import sampled

Run = Callable[[str, Sequence[Any], Sequence[tuple[tuple[int, ...], str]]], list[Array]]
ROOM_INTS = 6472  # of each draw's memory
ODD = 4099  # tokens: a part of a row and three more, and no row but the first begins at a multiple of 16 bytes
# top_k, top_p, min_p
CUTS: tuple[tuple[int, float, float], ...] = (
    (0, 1, 0),
    (40, 1, 0),
    (0, 0.95, 0),
    (0, 0.5, 0),
    (4_500, 0.5, 0),  # more than are gathered
    (50, 0.9, 0.02),
    (0, 1, 0.1),
)
LAST = 1 - 2.0**-53


def functions(vocab: int) -> Iterator[tuple[str, Any]]:
    from kvscape.compiler.kernels.cuda import choices

    yield "sample", choices.sample_function(vocab)
    yield "sample_odd", choices.sample_function(ODD, "sample_odd")


def usual_logits(vocab: int, rng: np.random.Generator) -> Array:
    """Flat and peaked rows, ties, tokens that cannot be."""
    scales = np.array([0.0, 0.01, 1, 3, 12])[:, None]
    rows = [*(scales * rng.standard_normal((len(scales), vocab))), rng.integers(-6, 6, vocab).astype(np.float64)]
    rows.append(np.where(rng.random(vocab) < 0.999, -np.inf, rows[2]))
    return np.array(rows, np.float32)


def rare_logits(vocab: int, rng: np.random.Generator) -> Array:
    """One far below all others, which are in one bin then; the likeliest at either end; infinities, and no numbers."""
    rows = rng.standard_normal((9, vocab))
    rows[0] *= 0.001
    rows[0, vocab // 3] = -1e30
    rows[1, -1], rows[2, 0], rows[3, vocab // 2] = 9, 9, np.inf
    rows[4], rows[5] = -np.inf, np.nan
    rows[6, rng.random(vocab) < 0.5] = np.nan
    rows[7, :-1] = -np.inf
    rows[8, ::2], rows[8, 1::2] = 0.0, -0.0
    return rows.astype(np.float32)


def drawn(logits: Array, draws: Sequence[Draw]) -> list[int]:
    """What is no number is not there; without a largest number that is finite, it is the first of the largest."""
    there = np.where(np.isnan(logits), -np.inf, logits).astype(np.float32)
    plain = [one if np.isfinite(there[one.row].max()) else one._replace(temperature=0.0) for one in draws]
    return sampled(there, plain)


def check(vocab: int, times: int, kernels: Run, rng: np.random.Generator) -> Iterator[Checked]:
    """``times`` each usual distribution; the rare ones of both vocabularies."""
    for cut in CUTS:
        yield _compared("sample", kernels, usual_logits(vocab, rng), cut, (0.0, 0.6, 1.0, 2.0), rng.random(times))
    for name, size, cuts in (("sample", vocab, CUTS[1:]), ("sample_odd", ODD, CUTS[2:6:3])):
        for cut in cuts:
            yield _compared(name, kernels, rare_logits(size, rng), cut, (0.7,), np.array([0.0, 0.4217, LAST]))


def _compared(
    name: str,
    kernels: Run,
    logits: Array,
    cut: tuple[int, float, float],
    temperatures: Sequence[float],
    uniforms: Array,
) -> Checked:
    # It loads TVM's runtime alone, with which nothing can be built.
    from kvscape.engine.devices.cuda.tensors import CudaDraws

    (top_k, top_p, min_p), device = cut, kernels.device  # type: ignore[attr-defined]
    draws = [
        Draw(row, top_k, temperature, top_p, min_p, float(uniform))
        for row, temperature, uniform in product(range(len(logits)), temperatures, uniforms)
    ]
    tensor = CudaDraws(device).fill(draws)
    y, _ = kernels(name, [logits, tensor], [((len(draws),), "int32"), ((len(draws), ROOM_INTS), "int32")])
    wrong = np.count_nonzero(y != np.array(drawn(logits, draws)))
    kind = "usual" if len(temperatures) > 1 else "rare"
    return Checked(f"{name} {kind} top_k {top_k} top_p {top_p} min_p {min_p}: {wrong} differ", 0.0, not wrong)
