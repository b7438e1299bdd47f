"""What the rounding of a matrix must know of its inputs: two sums over the tokens of the calibration text."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kvscape.calibration.gptq import F64, damped
from kvscape.quantization.arrays import F32


@dataclass(frozen=True, eq=False)
class Moments:
    """``hessian`` x^T x and ``shift`` (x' - x)^T x, both [K, K], of the inputs x that the rounded products before give
    and x' that the exact ones would."""

    hessian: F64
    shift: F64

    @classmethod
    def of(cls, pairs: Iterable[tuple[F32, F32]]) -> "Moments":
        """Of some tokens at once: pairs of x and x', [tokens, K]. Products are f32, their sums f64."""
        hessian, shift = (np.zeros((0, 0)), np.zeros((0, 0)))
        for rounded, exact in pairs:
            if not hessian.size:
                hessian, shift = (np.zeros((rounded.shape[1],) * 2) for _ in range(2))
            hessian += rounded.T @ rounded
            shift += (exact - rounded).T @ rounded
        return cls(hessian, shift)

    def correction(self, share: float, damping: float) -> F32:
        """[K, K]: a weight times this is to be added to it. It is ``share`` of the least-squares answer to the error of
        the inputs (GPTAQ, Li et al. 2025, arXiv 2504.02692)."""
        answer = np.linalg.solve(damped(self.hessian, damping), self.shift.T).T
        return (share * answer).astype(np.float32)

    @property
    def importance(self) -> F32:
        """The mean squares of the inputs, up to a factor: [K]."""
        diagonal = self.hessian.diagonal()
        return (diagonal / (diagonal.mean() or 1.0)).astype(np.float32)
