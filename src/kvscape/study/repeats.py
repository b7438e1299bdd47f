"""Several measurements of one point, spread over a study's time, as one record."""

from collections.abc import Sequence
from dataclasses import replace

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
    runs = len(samples["decode_tokens_per_s"])
    return replace(
        first,
        samples=samples,
        metrics={**first.metrics, **summarize(samples)},
        intervals=intervals(samples, runs),
        environment={**first.environment, "repeats": len(chosen)},
    )
