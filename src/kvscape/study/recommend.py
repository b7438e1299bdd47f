"""Which point to ship on a budget, what else there is, and how to run it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from kvscape.config import DesignPoint, asked_flags
from kvscape.errors import ResultsError, near_match
from kvscape.results import PerplexityRecord, Record
from kvscape.study.alternatives import Alternative, Relaxation, relaxations, runners_up
from kvscape.study.budget import Budget
from kvscape.study.candidate import Candidate, make_candidates
from kvscape.study.constraint import Constraint, best_perplexity, constraints
from kvscape.study.elsewhere import Translation, translations
from kvscape.study.flags import scoring_command, shipping_commands
from kvscape.study.objective import best_of
from kvscape.study.quality_model import cell


@dataclass(frozen=True)
class Recommendation:
    """The point to ship, or the nearest miss with the limits it breaks.

    ``confidence`` says of each metric whether it is measured or predicted, ``intervals`` what holds 95 % of it.
    ``runners_up`` are the best points in other directions, ``relaxations`` what each limit costs, or, where none keeps
    all limits, what each would have to be. ``elsewhere`` has the same point for other engines, ``notes`` what to know.
    """

    status: Literal["met", "not_met"]
    point: dict[str, Any]
    metrics: dict[str, float]
    commands: list[str]
    broken: tuple[Constraint, ...] = ()
    reason: str = ""
    objective: str = "decode"
    confidence: Mapping[str, str] | None = None
    intervals: Mapping[str, Sequence[float]] | None = None
    runners_up: tuple[Alternative, ...] = ()
    relaxations: tuple[Relaxation, ...] = ()
    elsewhere: tuple[Translation, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def advice(self) -> str:
        """What to change where no point keeps all limits."""
        alone = [relaxation.needed for relaxation in self.relaxations]
        together = " and ".join(limit.needed for limit in self.broken if limit.needed)
        return f"use {' or '.join(alone) or together or 'a larger budget'}, or study more points"


def recommend(
    records: Sequence[Record], budget: Budget, perplexities: Sequence[PerplexityRecord] = ()
) -> Recommendation:
    """Among the points that keep every limit: the best in the budget's objective.

    Records may be measured or predicted: each is judged by the worse end of its intervals. Speeds within
    ``SPEED_NOISE`` count as equal; then what is measured, the longer context, the larger batch, the lower perplexity
    and the smaller memory win. Where none keeps all limits, the nearest miss is the one whose worst excess is least.
    Raises ResultsError when nothing is known of any point, or no perplexity where the budget limits it.
    """
    candidates = make_candidates(records, perplexities)
    if not candidates:
        raise ResultsError("nothing to recommend", "no point has been measured", "run 'kvscape study' first")
    candidates, notes = _of_workload(candidates, budget)
    machines = {candidate.machine for candidate in candidates if candidate.machine}
    best = best_perplexity(candidates, budget)
    if budget.max_perplexity_ratio is not None or budget.objective == "quality":
        candidates, notes = _with_quality(candidates, notes)
    judged = [(candidate, constraints(candidate, budget, best)) for candidate in candidates]
    affordable = [candidate for candidate, limits in judged if all(limit.is_kept for limit in limits)]
    if affordable:
        chosen = best_of(affordable, budget.objective)
        others = runners_up(chosen, affordable, budget.objective)
        answer = _answer("met", chosen, budget, (), others, relaxations(chosen, judged, budget.objective), notes)
        return _with_scoring(_with_machine(answer, chosen, machines), perplexities)
    nearest, limits = min(judged, key=lambda pair: max(limit.excess for limit in pair[1]))
    broken = tuple(limit for limit in limits if not limit.is_kept)
    answer = _answer("not_met", nearest, budget, broken, (), relaxations(None, judged, budget.objective), notes)
    return _with_scoring(_with_machine(answer, nearest, machines), perplexities)


def _with_machine(answer: Recommendation, chosen: Candidate, machines: Collection[str]) -> Recommendation:
    """Where several machines measured, a speed is that of one of them."""
    if len(machines) < 2 or not chosen.machine:
        return answer
    note = f"measured on {chosen.machine}, one of {len(machines)} machines: its speed is of that one"
    return replace(answer, notes=(*answer.notes, note))


def _with_scoring(answer: Recommendation, perplexities: Sequence[PerplexityRecord]) -> Recommendation:
    """The command that measures the quality again, as that of this point or of another was measured."""
    scored = [record for record in perplexities if record.status == "ok"]
    if not scored:
        return answer
    own = cell(answer.point)
    like = next((record for record in scored if cell(record.parameters) == own), scored[0])
    command = scoring_command(DesignPoint.from_flat(answer.point), like)
    return replace(answer, commands=[*answer.commands, command])


def _of_workload(candidates: Sequence[Candidate], budget: Budget) -> tuple[list[Candidate], tuple[str, ...]]:
    """Points are compared under one workload: the one that is asked for, or the study's first."""
    known = list(dict.fromkeys(candidate.workload for candidate in candidates))
    wanted = budget.workload or known[0]
    if wanted not in known:
        do = near_match(asked_flags(wanted), list(map(asked_flags, known)))
        raise ResultsError(f"no point was studied with {asked_flags(wanted)}", "another workload", do)
    others = ", ".join(asked_flags(workload) for workload in known if workload != wanted)
    notes = (f"judged by {asked_flags(wanted)}; also studied: {others}",) if others else ()
    return [candidate for candidate in candidates if candidate.workload == wanted], notes


def _with_quality(candidates: Sequence[Candidate], notes: tuple[str, ...]) -> tuple[list[Candidate], tuple[str, ...]]:
    known = [candidate for candidate in candidates if "perplexity" in candidate.metrics]
    doubts = [candidate.doubt for candidate in candidates if candidate.doubt]
    if not known:
        why = doubts[0] if doubts else "no perplexity was measured"
        raise ResultsError("no point's quality is known", why, "add [ppl] to the study")
    if doubts:
        notes = (*notes, f"{len(doubts)} points are left out: {doubts[0]}")
    return known, notes


def _answer(
    status: Literal["met", "not_met"],
    chosen: Candidate,
    budget: Budget,
    broken: tuple[Constraint, ...],
    others: tuple[Alternative, ...],
    relaxed: tuple[Relaxation, ...],
    notes: tuple[str, ...],
) -> Recommendation:
    point = DesignPoint.from_flat(chosen.parameters)
    reason = ", ".join(limit.miss for limit in broken)
    return Recommendation(
        status=status,
        point=dict(chosen.parameters),
        metrics=dict(chosen.metrics),
        commands=shipping_commands(point),
        broken=broken,
        reason=reason,
        objective=budget.objective,
        confidence={name: "predicted" if name in chosen.predicted else "measured" for name in chosen.metrics},
        intervals={name: list(bound) for name, bound in (chosen.bounds or {}).items() if name in chosen.metrics},
        runners_up=others,
        relaxations=relaxed,
        elsewhere=translations(point, chosen.metrics),
        notes=(*notes, *((f"its perplexity does not count: {chosen.doubt}",) if chosen.doubt else ())),
    )
