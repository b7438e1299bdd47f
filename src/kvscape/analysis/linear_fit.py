"""Times as sums of terms whose coefficients are roughly known beforehand: Bayesian linear regression."""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Relative errors of a measured time, from a quiet machine to a busy one, and how far coefficients lie from their prior.
_NOISES = np.geomspace(0.003, 0.6, 40)
_SPREADS = (0.5, 1.0, 2.0)
_UNFITTED_NOISE = 0.3
# No time is below this part of what the prior says: a sum with negative coefficients could be.
_LEAST = 0.1
# Rows further off than this many times the noise count less: a machine is disturbed now and then.
_OUTLIER, _REWEIGHTINGS = 2.5, 6


@dataclass(frozen=True)
class Prior:
    """What is thought of each coefficient before anything is measured."""

    mean: FloatArray
    deviation: FloatArray


@dataclass(frozen=True)
class LinearFit:
    """Coefficients with their covariance; ``noise`` is the relative error of one time, ``freedom`` what it rests on.

    ``weights`` says how much each fitted row counts, ``deviation`` how far coefficients were found to lie from their
    prior.
    """

    prior: Prior
    deviation: FloatArray
    coefficients: FloatArray
    covariance: FloatArray
    noise: float
    freedom: float
    weights: FloatArray

    def predict(self, terms: FloatArray) -> FloatArray:
        """Times of rows of terms."""
        return np.maximum(terms @ self.coefficients, _LEAST * (terms @ self.prior.mean))

    def interval(self, terms: FloatArray, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Where a new measurement of each row is to be expected; both ends are positive."""
        time = self.predict(terms)
        share = np.sqrt(self.noise**2 + np.einsum("ij,jk,ik->i", terms, self.covariance, terms) / time**2)
        factor = np.exp(student_quantile(0.5 + confidence / 2, self.freedom) * share)
        return time / factor, time * factor

    def without(self, terms: FloatArray, times: FloatArray, rows: NDArray[np.bool_]) -> "LinearFit":
        """The same fit had some of its rows not been measured; what was found of noise and deviation stays."""
        x, error = _scaled(terms[~rows], times[~rows], self.weights[~rows], self.prior)
        coefficients, covariance = _posterior(x, error, self.noise, self.prior, self.deviation)
        return replace(self, coefficients=coefficients, covariance=covariance, weights=self.weights[~rows])


def fit_times(terms: FloatArray, times: FloatArray, prior: Prior) -> LinearFit:
    """Fit times [rows] to terms [rows, coefficients] by their relative errors.

    The noise, and how far coefficients lie from their prior, are those under which the times were most likely
    (MacKay 1992, "Bayesian interpolation"); rows that are far off count less. Without rows all is prior.
    """
    if not len(times):
        covariance = np.diag(prior.deviation**2)
        return LinearFit(prior, prior.deviation, prior.mean, covariance, _UNFITTED_NOISE, math.inf, np.ones(0))
    weights = np.ones(len(times))
    for _ in range(_REWEIGHTINGS):
        fit = _fitted(terms, times, weights, prior)
        error = np.abs(1 - terms @ fit.coefficients / times)
        weights = np.minimum(1.0, (_OUTLIER * fit.noise / np.maximum(error, 1e-12)) ** 2)
    return fit


def _fitted(terms: FloatArray, times: FloatArray, weights: FloatArray, prior: Prior) -> LinearFit:
    x, error = _scaled(terms, times, weights, prior)
    noise, deviation = _most_likely(x, error, prior.deviation)
    coefficients, covariance = _posterior(x, error, noise, prior, deviation)
    used = float(np.trace(x @ covariance @ x.T)) / noise**2
    freedom = max(1.0, float(weights.sum()) - used)
    return LinearFit(prior, deviation, coefficients, covariance, noise, freedom, weights)


def _scaled(terms: FloatArray, times: FloatArray, weights: FloatArray, prior: Prior) -> tuple[FloatArray, FloatArray]:
    """Terms and errors of the prior relative to the times, by the weights' roots."""
    root = np.sqrt(weights)
    return terms * (root / times)[:, None], (1 - terms @ prior.mean / times) * root


def _posterior(
    x: FloatArray, error: FloatArray, noise: float, prior: Prior, deviation: FloatArray
) -> tuple[FloatArray, FloatArray]:
    covariance = np.asarray(np.linalg.inv(x.T @ x / noise**2 + np.diag(deviation**-2)), np.float64)
    return prior.mean + covariance @ x.T @ error / noise**2, covariance


def _most_likely(x: FloatArray, error: FloatArray, deviation: FloatArray) -> tuple[float, FloatArray]:
    """The noise and the coefficients' deviation under which the errors are most likely, whatever the coefficients."""
    noises, found = _NOISES[:, None] ** 2, []
    for spread in _SPREADS:
        directions, sizes, _ = np.linalg.svd(x * (spread * deviation), full_matrices=False)
        explained = (directions.T @ error) ** 2
        beyond = max(0.0, float(error @ error - explained.sum()))
        variance = sizes**2 + noises
        cost = (np.log(variance) + explained / variance).sum(axis=1)
        cost += (len(error) - len(sizes)) * np.log(noises[:, 0]) + beyond / noises[:, 0]
        found.append((-cost.min(), float(_NOISES[cost.argmin()]), spread))
    _, noise, spread = max(found)
    return noise, spread * deviation


def student_quantile(share: float, freedom: float) -> float:
    """Quantile of Student's distribution by its expansion (Abramowitz and Stegun 26.7.5), within 2 % from 3 up."""
    z, n = NormalDist().inv_cdf(share), max(freedom, 3.0)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / n**power for power, term in enumerate(terms, 1))
