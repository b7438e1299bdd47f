"""One load on an endpoint measured: runs of the workload, the steady part of each, and the record of all of them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from kvscape.analysis.statistics import median_interval
from kvscape.bench.steady import Steady, steady_part
from kvscape.config import DesignPoint, parse_slo
from kvscape.errors import EndpointError
from kvscape.results import Record, current_environment
from kvscape.subjects.endpoint import Answer, EndpointSubject

LATENCY_SAMPLES = ("ttft_s", "tpot_s", "e2e_s")
RATES = ("prefill_tokens_per_s", "decode_tokens_per_s", "chars_per_s", "requests_per_s", "goodput_requests_per_s")
_PERCENTILES = (50, 90, 95, 99)
_LEAST_FOR_INTERVAL = 3
# Times between tokens are many; so many of them, evenly chosen of all in their order of size, say the same.
_MOST_ITL = 5000


@dataclass(frozen=True)
class LoadRun:
    """One run: all its answers, and the steady part of them."""

    answers: Sequence[Answer]
    steady: Steady
    slo: Mapping[str, float]

    @property
    def counted(self) -> list[Answer]:
        """Whole answers of the steady part: its latencies are theirs."""
        return [answer for answer in self.steady.answers if answer.is_ok]

    def latencies(self, name: str) -> list[float]:
        found = (getattr(answer, name) for answer in self.counted)
        return [value for value in found if value is not None]

    @property
    def itl_s(self) -> list[float]:
        """Times between two pieces of text of an answer, which are tokens where the server sends each by itself."""
        return [later - earlier for answer in self.counted for earlier, later in pairwise(answer.pieces_s)]

    @property
    def rates(self) -> dict[str, float]:
        """What was done in the steady part, by its time; an answer counts when it is whole."""
        whole = [answer for answer in self.answers if answer.is_ok]
        ended = [answer for answer in whole if self.steady.holds(answer.ended_s)]
        read = [answer for answer in whole if self.steady.holds(answer.pieces_s[0])]
        written = [(answer, self._share(answer)) for answer in whole]
        totals = (
            sum(answer.prompt_tokens or 0 for answer in read),
            sum(answer.output_tokens * share for answer, share in written),
            sum(answer.characters * share for answer, share in written),
            len(ended),
            sum(self._keeps(answer) for answer in ended),
        )
        seconds = self.steady.duration_s
        return {name: total / seconds for name, total in zip(RATES, totals, strict=True)}

    def _share(self, answer: Answer) -> float:
        """The part of an answer that came in the steady part."""
        return sum(map(self.steady.holds, answer.pieces_s)) / len(answer.pieces_s)

    def _keeps(self, answer: Answer) -> bool:
        return all((getattr(answer, name) or 0.0) <= most for name, most in self.slo.items())


def measure_load(subject: EndpointSubject, point: DesignPoint, advance: Callable[[], None] | None = None) -> Record:
    """Run the workload ``num_runs`` times; ``advance`` is called after each request.

    Raises EndpointError where no request of the steady part had an answer.
    """
    work = point.workload
    slo = parse_slo(work.slo) if work.slo else {}
    runs = []
    for number in range(work.num_runs):
        answers = subject.answers(number, advance)
        runs.append(LoadRun(answers, steady_part(answers, work.concurrency or 1), slo))
    _check(runs)
    samples = _samples(runs)
    failed = sum(not answer.is_ok for run in runs for answer in run.answers)
    total = sum(len(run.answers) for run in runs)
    metrics = {**summarize_load(samples), "failed_share": failed / total}
    if work.slo is None:
        del metrics["goodput_requests_per_s"]
    return Record(
        parameters=point.flat(),
        metrics=metrics,
        predicted={},
        samples=samples,
        environment={**current_environment().to_json(), **_facts(subject, runs)},
        intervals=_intervals(runs),
        errors=dict(_errors(answer for run in runs for answer in run.answers)),
    )


def _check(runs: Sequence[LoadRun]) -> None:
    answers = [answer for run in runs for answer in run.answers]
    if any(run.counted for run in runs):
        return
    failed = _errors(answers)
    reason = next((answer.reason for answer in answers if not answer.is_ok), "")
    counts = ", ".join(f"{count} x {status}" for status, count in failed.items())
    raise EndpointError(f"no request had an answer ({counts})", reason, "look at the server's log, or ask for less")


def _errors(answers: Iterable[Answer]) -> Counter[str]:
    """Failed requests by their status; ``429 retried`` counts refusals that were followed by another try."""
    found = Counter[str]()
    for answer in answers:
        if not answer.is_ok:
            found[answer.status] += 1
        if answer.refused:
            found["429 retried"] += answer.refused
    return found


def _samples(runs: Sequence[LoadRun]) -> dict[str, list[float]]:
    rates = [run.rates for run in runs]
    itl = np.sort([time for run in runs for time in run.itl_s])
    if len(itl) > _MOST_ITL:
        itl = itl[np.linspace(0, len(itl) - 1, _MOST_ITL).round().astype(int)]
    return {
        **{name: [one[name] for one in rates] for name in RATES},
        **{name: [value for run in runs for value in run.latencies(name)] for name in LATENCY_SAMPLES},
        "itl_s": itl.tolist(),
    }


def summarize_load(samples: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Medians, and the percentiles of times; what has no sample has no metric."""
    found = {name: float(np.median(samples[name])) for name in (*RATES, *LATENCY_SAMPLES) if samples[name]}
    for name in (*LATENCY_SAMPLES, "itl_s"):
        if samples[name]:
            stem = name.removesuffix("_s")
            values = np.percentile(samples[name], _PERCENTILES)
            found |= {f"{stem}_p{p}_s": float(value) for p, value in zip(_PERCENTILES, values, strict=True)}
    # The median has the measure's own name, but of the times between tokens.
    twice = {f"{name.removesuffix('_s')}_p50_s" for name in LATENCY_SAMPLES}
    return {name: value for name, value in found.items() if name not in twice}


def _intervals(runs: Sequence[LoadRun]) -> dict[str, list[float]]:
    """95 % of each median, from run to run: requests of one run are not independent."""
    if len(runs) < _LEAST_FOR_INTERVAL:
        return {}
    levels: dict[str, list[float]] = {name: [run.rates[name] for run in runs] for name in RATES}
    for name in LATENCY_SAMPLES:
        medians = [float(np.median(values)) for run in runs if (values := run.latencies(name))]
        levels |= {name: medians} if len(medians) == len(runs) else {}
    return {name: list(median_interval(values)) for name, values in levels.items()}


def _facts(subject: EndpointSubject, runs: Sequence[LoadRun]) -> dict[str, Any]:
    """What says how far to trust the figures."""
    counted = [answer for run in runs for answer in run.counted]
    pieces = sum(len(answer.pieces_s) for answer in counted)
    late = [answer.sent_s - answer.asked_s for run in runs for answer in run.answers]
    return {
        "served_model": subject.served_model,
        "tokens_counted_by": "usage" if subject.has_usage else "pieces of text",
        "ignores_eos": subject.ignores_eos,
        "requests": sum(len(run.answers) for run in runs),
        "counted_requests": len(counted),
        "steady_s": [run.steady.duration_s for run in runs],
        "steady_is_whole_run": any(run.steady.is_whole for run in runs),
        "mean_prompt_tokens": float(np.mean([answer.prompt_tokens or 0 for answer in counted])),
        "mean_output_tokens": float(np.mean([answer.output_tokens for answer in counted])),
        "tokens_per_piece": sum(answer.output_tokens for answer in counted) / pieces,
        "sent_late_p99_s": float(np.percentile(late, 99)),
    }
