"""Logits of every shape that a model may give, and the divergence of two rows as its definition says it."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

KINDS = ("ordinary", "peaked", "flat", "ties", "impossible", "far", "one token")
kinds = st.sampled_from(KINDS)
seeds = st.integers(0, 2**32 - 1)


def made_logits(kind: str, seed: int, rows: int = 3, vocab_size: int = 60) -> NDArray[np.float32]:
    """[rows, vocab_size]"""
    random = np.random.default_rng(seed)
    logits = random.standard_normal((rows, vocab_size)).astype(np.float32) * 3
    if kind == "peaked":
        logits[:, seed % vocab_size] += 25
    elif kind == "flat":
        logits = logits * np.float32(1e-3) + np.float32(12)
    elif kind == "ties":
        logits = np.round(logits)
    elif kind == "impossible":
        logits[random.random(logits.shape) < 0.3] = -np.inf
        logits[:, 0] = 0
    elif kind == "far":
        logits *= 40
    elif kind == "one token":
        logits[:, 1:] = -np.inf
    return logits


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logprobs: NDArray[np.float64] = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return logprobs


def direct_kl(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum of p (ln p - ln q) in f64, over the tokens that are possible for f32: [rows]."""
    p, q = log_softmax(reference), log_softmax(candidate)
    with np.errstate(invalid="ignore"):
        terms = np.where(p > -103, np.exp(p) * (p - q), 0)
    kl: NDArray[np.float64] = terms.sum(axis=1)
    return kl
