"""Several measurements of one point, spread over a study's time, as one record."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from kvscape.bench.load import summarize_load
from kvscape.bench.measure import intervals, summarize
from kvscape.results import Record

DISTURBED = "disturbed"


def joined(repeats: Sequence[Record]) -> Record:
    """Samples of all repeats that have some, and their medians; the last record where none has.

    Repeats that the machine disturbed count only where there is no other.
    """
    measured = [record for record in repeats if record.status == "ok" and record.samples]
    quiet = [record for record in measured if not record.environment.get(DISTURBED)]
    chosen = quiet or measured
    if len(chosen) < 2:
        return chosen[0] if chosen else repeats[-1]
    first = chosen[0]
    samples = {name: [value for record in chosen for value in record.samples[name]] for name in first.samples}
    runs = [len(record.samples["decode_tokens_per_s"]) for record in chosen]
    is_load = "requests_per_s" in samples
    summary = _load_summary(chosen, samples) if is_load else summarize(samples)
    return replace(
        first,
        samples=samples,
        metrics={**first.metrics, **summary},
        intervals={}
        if is_load
        else intervals(samples, sum(runs), runs),  # a load's runs have each their own number of requests
        environment={**first.environment, "repeats": len(chosen)},
        errors=dict(sum((Counter(record.errors) for record in chosen), Counter[str]())),
    )


def _load_summary(chosen: Sequence[Record], samples: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Of a load on an endpoint; goodput only where there is an SLO."""
    known = {name: value for name, value in summarize_load(samples).items() if name in chosen[0].metrics}
    return {**known, "failed_share": fmean(record.metrics["failed_share"] for record in chosen)}
