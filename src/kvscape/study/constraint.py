"""The limits of a budget on one candidate, and the flag that sets each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kvscape.errors import ResultsError
from kvscape.study.budget import Budget
from kvscape.study.candidate import Candidate

# Of a constraint's name: what it is called, and the unit that it is asked in.
_SAID = {
    "total_bytes": ("total memory", 1 / 2**20, " MiB"),
    "decode_tokens_per_s of a stream": ("decode speed of a stream", 1.0, " tokens/s"),
    "ttft_s": ("time to first token", 1.0, " s"),
    "context_window_size": ("context", 1.0, " tokens"),
    "max_batch_size": ("batch", 1.0, " sequences"),
    "max_total_sequence_length": ("KV pool", 1.0, " tokens"),
}


@dataclass(frozen=True)
class Constraint:
    """One limit on one candidate: ``excess`` 0.2 is 20 % beyond the limit, at most 0 is kept.

    ``needed`` is the flag under which the candidate would just keep it.
    """

    name: str
    value: float
    limit: float
    excess: float
    needed: str = ""

    @property
    def is_kept(self) -> bool:
        return self.excess <= 0

    @property
    def miss(self) -> str:
        """By how much it is broken, in words and in the units of the flags."""
        title, factor, unit = _SAID.get(self.name, (self.name, 1.0, ""))
        value, limit = (f"{number * factor:,.5g}{unit}" for number in (self.value, self.limit))
        return f"{title} {value} misses {limit} by {self.excess:,.1%}"

    @property
    def flag(self) -> str:
        return self.needed.split(" ", 1)[0]


def constraints(candidate: Candidate, budget: Budget, best_perplexity: float) -> list[Constraint]:
    """Every limit of the budget; a metric that is not known keeps none."""
    found = [*_requirements(candidate, budget)]
    if (most := budget.max_total_bytes) is not None:
        value = _known(candidate, "total_bytes")
        found.append(_at_most("total_bytes", value, most, f"--max-memory {_ceil(value / 2**20)}MiB"))
    if (least := budget.min_decode_tokens_per_s) is not None:
        speed = 1 / _known(candidate, "tpot_s")
        needed = f"--min-decode {math.floor(speed * 10) / 10:g}"
        found.append(_at_least("decode_tokens_per_s of a stream", speed, least, needed))
    if (longest := budget.max_ttft_s) is not None:
        value = _known(candidate, "ttft_s")
        found.append(_at_most("ttft_s", value, longest, f"--max-ttft {_ceil(value * 1e3) / 1e3:g}"))
    if budget.max_perplexity_ratio is not None:
        value, limit = _known(candidate, "perplexity"), budget.max_perplexity_ratio * best_perplexity
        increase = _ceil(1000 * (value / best_perplexity - 1)) / 10
        found.append(_at_most("perplexity", value, limit, f"--max-ppl-increase {increase:g}%"))
    return found


def _requirements(candidate: Candidate, budget: Budget) -> list[Constraint]:
    parameters, found = candidate.parameters, []
    context, streams = parameters["context_window_size"], parameters["max_batch_size"]
    if (least := budget.min_context) is not None:
        found.append(_at_least("context_window_size", context, least, f"--min-context {context}"))
    if (many := budget.concurrency) is not None:
        found.append(_at_least("max_batch_size", streams, many, f"--concurrency {streams}"))
    pool = parameters.get("max_total_sequence_length")
    if pool is not None and (budget.min_context or budget.concurrency):
        each, at_once = budget.min_context or context, budget.concurrency or 1
        needed = f"--min-context {pool // at_once}"
        found.append(_at_least("max_total_sequence_length", pool, each * at_once, needed))
    return found


def best_perplexity(candidates: Sequence[Candidate], budget: Budget) -> float:
    """The perplexity that a ratio is taken to; not used, and so 0, where the budget has no ratio.

    Raises ResultsError where there is none.
    """
    if budget.max_perplexity_ratio is None:
        return 0.0
    known = [
        candidate.metrics["perplexity"]
        for candidate in candidates
        if "perplexity" in candidate.metrics and budget.baseline in (None, candidate.parameters["quantization"])
    ]
    if not known:
        whose = f"of {budget.baseline}" if budget.baseline else "at all"
        why = next(
            (candidate.doubt for candidate in candidates if candidate.doubt), f"the study has no perplexity {whose}"
        )
        raise ResultsError("no baseline", why, "add it to the study, or drop the limit")
    return min(known)


def _known(candidate: Candidate, name: str) -> float:
    value = candidate.at_worst(name)
    return math.inf if value is None else value


def _at_most(name: str, value: float, limit: float, needed: str) -> Constraint:
    return Constraint(name, value, limit, value / limit - 1 if limit else math.inf, needed)


def _at_least(name: str, value: float, limit: float, needed: str) -> Constraint:
    return Constraint(name, value, limit, limit / value - 1 if value else math.inf, needed)


def _ceil(value: float) -> float:
    return math.ceil(value) if math.isfinite(value) else value
