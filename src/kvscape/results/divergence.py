"""How far one build's distributions are from a reference's, over a text; keys are fixed, units are in their names."""

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

KL_EDGES_NATS: tuple[float, ...] = tuple(float(edge) for edge in np.logspace(-7, 2, 46))
"""Five bins a decade. What is below the first edge, 0 too, is in the first bin; the last one holds the largest."""


@dataclass(frozen=True)
class Guess:
    """A token that a model holds likely."""

    token: str
    probability: float


@dataclass(frozen=True)
class WorstToken:
    """A place where the two differ most: ``token`` comes behind ``context``, as token ``position`` of its window."""

    window: int
    position: int
    kl_nats: float
    context: str
    token: str
    reference_probability: float
    candidate_probability: float
    reference_top: tuple[Guess, ...]
    candidate_top: tuple[Guess, ...]

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "WorstToken":
        tops = {name: tuple(Guess(**one) for one in raw[name]) for name in ("reference_top", "candidate_top")}
        return cls(**{**raw, **tops})


@dataclass(frozen=True)
class Divergence:
    """KL(reference || candidate) of each scored token, and what follows from both models' probabilities.

    Of a reference that was kept in part, ``mean_kl_nats`` lies between its ``low`` and ``high``; else all three are
    the same. Agreements are shares: of tokens with the same likeliest one, and of the five likeliest that are the same.
    ``probability_change`` is that of the right token, candidate less reference. ``perplexity_ratio`` is the
    candidate's over the reference's, its error that of a paired comparison.
    """

    reference: dict[str, Any]
    tokens_compared: int
    mean_kl_nats: float
    mean_kl_standard_error_nats: float
    mean_kl_low_nats: float
    mean_kl_high_nats: float
    kl_p50_nats: float
    kl_p90_nats: float
    kl_p95_nats: float
    kl_p99_nats: float
    kl_p99_9_nats: float
    kl_max_nats: float
    top1_agreement: float
    top1_agreement_standard_error: float
    top5_agreement: float
    mean_probability_change: float
    rms_probability_change: float
    probability_change_p1: float
    probability_change_p5: float
    probability_change_p50: float
    probability_change_p95: float
    probability_change_p99: float
    reference_perplexity: float
    perplexity_ratio: float
    perplexity_ratio_standard_error: float
    kl_histogram: tuple[int, ...] = ()
    """Tokens in the bins of ``KL_EDGES_NATS``."""
    worst_tokens: tuple[WorstToken, ...] = ()

    @property
    def numbers(self) -> dict[str, float]:
        """All that is one number, as columns of a table."""
        return {name: getattr(self, name) for name in NUMBERS}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Divergence":
        """Read a divergence; what JSON has no word for, and so is null, is not a number."""
        absent = {field.name: math.nan for field in fields(cls) if raw.get(field.name, 0) is None}
        worst = tuple(WorstToken.from_json(one) for one in raw.get("worst_tokens", ()))
        return cls(**{**raw, **absent, "kl_histogram": tuple(raw.get("kl_histogram", ())), "worst_tokens": worst})


NUMBERS = tuple(field.name for field in fields(Divergence) if field.type in (int, float))
