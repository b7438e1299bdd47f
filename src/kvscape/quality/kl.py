"""KL divergence of rows of distributions, KL(reference || candidate) = sum p (ln p - ln q), in nats.

Where only a part of the reference is known, the divergence is known within bounds. Probabilities below e-103, the
smallest that f32 has, count as 0; beside the bounds there is f32's rounding, ``ROUNDING`` at most for logits of
language models.
"""

from dataclasses import dataclass

import numpy as np

from kvscape.quality.distributions import Distributions, Doubles, Floats, Ids

ROUNDING = 2e-6
_IMPOSSIBLE = -103.0


@dataclass(frozen=True, eq=False)
class Divergences:
    """The divergence of each row, and what it is at least and at most: [rows] each."""

    kl: Doubles
    low: Doubles
    high: Doubles

    @classmethod
    def exact(cls, kl: Doubles) -> "Divergences":
        return cls(kl, kl, kl)


def whole_kl(p: Distributions, q: Distributions) -> Doubles:
    """Divergence of rows that are known whole: products in f32, sums in f64. A row against itself has exactly 0."""
    with np.errstate(invalid="ignore", over="ignore"):
        terms = p.shifted - q.shifted
        terms *= p.weights
        means = terms.sum(axis=1, dtype=np.float64) / np.exp(p.log_totals)
        kl: Doubles = means - p.log_totals + q.log_totals
    for index in np.flatnonzero(~np.isfinite(kl)).tolist():
        kl[index] = _slow_kl(p.row(index), q.row(index))
    return np.maximum(kl, 0)


def _slow_kl(p: Doubles, q: Doubles) -> float:
    """Divergence of one row with tokens that are impossible."""
    possible = p > _IMPOSSIBLE
    return float((np.exp(p[possible]) * (p[possible] - q[possible])).sum())


def lumped_kl(top_ids: Ids, top: Doubles, rest: Doubles, rest_entropy: Doubles, q: Distributions) -> Divergences:
    """Bounds from the k likeliest tokens and two numbers of the rest.

    top_ids, top: [rows, k] tokens and log-probabilities, best first; rest: [rows] log of all others' probability r;
    rest_entropy: [rows] sum of p ln p of the others.

    At least: taking all others for one token cannot raise a divergence (the data-processing inequality), so
    KL >= sum over the top of p ln(p/q) + r ln(r/q(rest)). It is the estimate too.
    At most: the others' part is ``rest_entropy`` - sum of p ln q, where p sums to r and no p is above c, the k-th
    largest. A sum of p ln q is linear in p: it is least where the least likely of q have c each, as many as r has room
    for, and the next one has what is left.
    """
    mass = np.exp(rest)
    known = _contribution(top, q.logprobs(top_ids)).sum(axis=1)
    lumped = _contribution(rest, q.rest(top_ids))
    least = [_least_cross(q, i, top_ids[i], float(mass[i]), float(np.exp(top[i, -1]))) for i in range(len(top))]
    low = np.maximum(known + lumped, 0)
    high = np.maximum(known + rest_entropy - np.array(least), low)
    return Divergences(low, np.maximum(low - ROUNDING, 0), high + ROUNDING)


def _contribution(p: Doubles, q: Doubles) -> Doubles:
    """p ln(p/q) of each pair of log-probabilities; nothing where p is impossible."""
    with np.errstate(invalid="ignore"):
        return np.where(p > _IMPOSSIBLE, np.exp(p) * (p - q), 0)


def _least_cross(q: Distributions, row: int, top_ids: Ids, mass: float, most: float) -> float:
    """The least that sum of p ln q can be for one row's others: no p above ``most``, ``mass`` in all."""
    if mass == 0:
        return 0.0
    others = np.delete(q.shifted[row], top_ids)
    full = min(int(mass / most), len(others) - 1)
    left = max(mass - full * most, 0.0)
    ordered = np.partition(others, full)
    total = float(q.log_totals[row])
    small = float(ordered[:full].sum(dtype=np.float64)) - full * total
    return most * small + (left * (float(ordered[full]) - total) if left > 0 else 0)


def coded_kl(p: Distributions, top_ids: Ids, steps: Doubles, floor: float, q: Distributions) -> Divergences:
    """Divergence of rows whose others' log-probabilities were rounded, with its error bound.

    p: the rounded rows, exact at ``top_ids`` [rows, k], the others' sum r exact too; steps: [rows] distance d of two
    codes. So ln(p'/p) of another token is within d (d/2 of its own rounding, d/2 of the common factor that keeps r).
    With x = ln p' - ln q, its mean X under p', and K' - K = sum p' ln(p'/p) + sum (p' - p)(x - ln(p'/p) - X):
    the first sum is r times a divergence of tilted distributions, 0 to r d^2/8 (Hoeffding); the second is at most
    (e^d - 1)(sum p'|x - X| + r d), since p' - p sums to 0 and |p' - p| <= p'(e^d - 1).
    A token below ``floor``, a log-probability, is taken for impossible; p ln(p/q) being convex, it adds at most
    e^floor (floor - ln q).
    """
    kl = whole_kl(p, q)
    d = 1.02 * steps + 4 * ROUNDING  # codes were rounded in f32
    mass, spread = _spread(p, top_ids, q)
    error = np.where(np.isfinite(kl), np.expm1(d) * (spread + mass * d), 0)  # infinite is certain
    low = np.maximum(kl - error - mass * d * d / 8 - ROUNDING, 0)
    return Divergences(kl, low, kl + error + _dropped(p, floor, q) + ROUNDING)


def _dropped(p: Distributions, floor: float, q: Distributions) -> Doubles:
    """What the tokens that are taken for impossible may add: [rows]."""
    most = np.maximum(floor + q.log_totals[:, None] - q.shifted, 0)
    result: Doubles = np.exp(floor) * np.where(np.isneginf(p.shifted), most, 0).sum(axis=1, dtype=np.float64)
    return result


def _spread(p: Distributions, top_ids: Ids, q: Distributions) -> tuple[Doubles, Doubles]:
    """Probability of the others, and the sum of p |x - mean of x| over them, x = ln p - ln q: [rows] each."""
    rows = np.arange(len(top_ids))[:, None]
    weights = p.weights.copy()
    weights[rows, top_ids] = 0
    with np.errstate(invalid="ignore"):
        x = np.where(weights > 0, p.shifted - q.shifted, 0)
        total = weights.sum(axis=1, dtype=np.float64)
        mean = (weights * x).sum(axis=1, dtype=np.float64) / np.where(total > 0, total, 1)
        apart: Floats = np.abs(x - mean[:, None].astype(np.float32)) * weights
    scale = np.exp(-p.log_totals)
    return total * scale, apart.sum(axis=1, dtype=np.float64) * scale
