"""Perplexity from whole distributions: a reference that is kept, or a candidate that is compared with one."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvscape.config import DesignPoint
from kvscape.plain_text import Text
from kvscape.quality.comparison import Comparison
from kvscape.quality.cut_text import CutText, cut_text
from kvscape.quality.divergence_summary import summarize_divergence
from kvscape.quality.measure import perplexity_record, quality_point
from kvscape.quality.perplexity import Told, scores
from kvscape.quality.protocols import Settings
from kvscape.quality.reference import LiveReference, Reference, StoredReference
from kvscape.quality.reference_facts import reference_facts
from kvscape.quality.reference_format import ReferenceFormat, check_limit
from kvscape.quality.reference_logits import find_reference, saved_reference
from kvscape.quality.row_scorer import RowScorer
from kvscape.results import PerplexityRecord
from kvscape.subjects import Subject


@dataclass(frozen=True)
class Measurement:
    """What is scored: a loaded subject, the point it was loaded with, protocol and text."""

    subject: Subject
    point: DesignPoint
    settings: Settings
    text: Text

    @property
    def cut(self) -> CutText:
        return cut_text(self.subject, self.text, self.settings)


def save_reference(
    run: Measurement, path: Path, form: ReferenceFormat, limit_bytes: int, told: Told | None = None
) -> PerplexityRecord:
    """Score a text and keep the distributions in ``path``; raise ConfigError where they would take too much."""
    cut = run.cut
    facts = reference_facts(run.subject, _point(run), run.settings, run.text, cut.windows, form)
    check_limit(facts.form, facts.rows, facts.vocab_size, limit_bytes)
    with saved_reference(path, facts) as writer:
        scorer = RowScorer(run.subject, cut.windows, lambda window, logits, targets: writer.add(logits, targets))
        nll = scores(scorer, cut.windows, told)
    return perplexity_record(run.subject, run.point, run.settings, run.text, cut, nll)


def compare_with_file(run: Measurement, path: Path, told: Told | None = None) -> PerplexityRecord:
    """Score a text and compare with what was kept of a reference; raise ConfigError where it does not belong here."""
    cut, found = run.cut, find_reference(path)
    found.facts.check_same(reference_facts(run.subject, _point(run), run.settings, run.text, cut.windows), str(path))
    kept = {"kept": f"top {found.facts.top_k}, rest as {found.facts.rest}", "build_key": found.facts.build_key}
    return _compared(run, cut, StoredReference(found), {**found.facts.parameters, **kept}, told)


def compare_with_subject(
    run: Measurement, reference: Subject, reference_point: DesignPoint, told: Told | None = None
) -> PerplexityRecord:
    """Score a text on two subjects side by side; raise ConfigError where they have not the same tokens."""
    cut = run.cut
    point = quality_point(reference_point, run.settings)
    wanted = reference_facts(run.subject, _point(run), run.settings, run.text, cut.windows)
    reference_facts(reference, point, run.settings, run.text, cut.windows).check_same(wanted, "model")
    of = {**point.flat(), "kept": "", "build_key": reference.build_key}
    return _compared(run, cut, LiveReference(reference, cut.windows), of, told)


def _compared(
    run: Measurement, cut: CutText, reference: Reference, of: dict[str, Any], told: Told | None
) -> PerplexityRecord:
    comparison = Comparison(reference)
    nll = scores(RowScorer(run.subject, cut.windows, comparison.look), cut.windows, told)
    record = perplexity_record(run.subject, run.point, run.settings, run.text, cut, nll)
    divergence = summarize_divergence(cut.windows, comparison.windows, of, run.subject.decode)
    return replace(record, divergence=divergence)


def _point(run: Measurement) -> DesignPoint:
    return quality_point(run.point, run.settings)
