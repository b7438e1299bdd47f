"""A record as a point that may be recommended: measured, predicted, or some of both."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kvscape.config import Asked, asked_of
from kvscape.results import PerplexityRecord, Record
from kvscape.study.quality_model import Cell, cell

HIGHER_IS_BETTER = frozenset({"decode_tokens_per_s", "prefill_tokens_per_s", "chars_per_s"})


@dataclass(frozen=True)
class Candidate:
    """``metrics`` are measured but for those named in ``predicted``; ``bounds`` has the 95 % intervals of both.

    ``doubt`` says why its perplexity does not count, where it does not. What was not run ``is_measured`` in nothing.
    ``machine`` is where it was measured, where that is known.
    """

    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    predicted: frozenset[str] = frozenset()
    bounds: Mapping[str, Sequence[float]] | None = None
    doubt: str = ""
    is_measured: bool = True
    machine: str = ""

    @property
    def workload(self) -> Asked:
        return asked_of(self.parameters)

    def at_worst(self, name: str) -> float | None:
        """The worse end of the metric's interval where it has one: what is promised must be found again."""
        value = self.metrics.get(name)
        if value is None or not self.bounds or name not in self.bounds:
            return value
        low, high = self.bounds[name]
        return low if name in HIGHER_IS_BETTER else high


def make_candidates(records: Iterable[Record], perplexities: Sequence[PerplexityRecord] = ()) -> list[Candidate]:
    """Every record that was measured or predicted; ``perplexities`` say under which protocol quality was measured."""
    texts = _Texts.of(perplexities)
    return [_candidate(record, texts) for record in records if record.status in ("ok", "predicted")]


def _candidate(record: Record, texts: "_Texts") -> Candidate:
    guessed = {} if record.status == "ok" else record.predicted
    if "perplexity" not in record.metrics and "perplexity" in record.predicted:
        guessed = {**guessed, "perplexity": record.predicted["perplexity"]}
    known = {**guessed, **record.metrics}
    named = frozenset(guessed) - frozenset(record.metrics)
    bounds = {name: bound for name, bound in record.predicted_intervals.items() if name in named}
    found = Candidate(
        record.parameters,
        known,
        named,
        {**bounds, **record.intervals},
        is_measured=record.status == "ok",
        machine=" ".join(
            str(record.environment[name]) for name in ("node", "cpu", "machine") if name in record.environment
        ),
    )
    doubt = texts.doubt(record.parameters) if "perplexity" in known else ""
    if not doubt:
        return found
    return replace(found, metrics={k: v for k, v in known.items() if k != "perplexity"}, doubt=doubt)


# A share of the text above which a score says what the weights were made for.
_OVERLAP = 0.01


@dataclass(frozen=True)
class _Texts:
    """How each quality was measured."""

    of_cell: Mapping[Cell, PerplexityRecord]

    @classmethod
    def of(cls, perplexities: Sequence[PerplexityRecord]) -> "_Texts":
        return cls({cell(record.parameters): record for record in perplexities if record.status == "ok"})

    def doubt(self, parameters: Mapping[str, Any]) -> str:
        """Why a point's perplexity does not count; empty when it does.

        A window shows its cost only in one stream that is longer than it: short windows of text never fill it.
        """
        own = self.of_cell.get(cell(parameters))
        if own is not None and own.calibration_overlap > _OVERLAP:
            return f"its weights were calibrated on {own.calibration_overlap:.0%} of the text it was scored on"
        window = parameters["sliding_window_size"]
        return "" if window == -1 else self._window_doubt(window, own)

    def _window_doubt(self, window: int, own: PerplexityRecord | None) -> str:
        known = [(record.protocol, record.context) for record in self.of_cell.values()]
        usual = max(known, key=known.count, default=("", 0))
        protocol, length = (own.protocol, own.context) if own else usual
        if protocol == "stream" and length > window:
            return ""
        how = f"protocol {protocol!r} of {length} tokens" if protocol else "a protocol that is not known"
        return f"a sliding window of {window} was scored under {how}: score it with 'stream' on a text longer than it"
