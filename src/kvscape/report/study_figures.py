"""Which figures a study gets, and where they stand on its page."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from kvscape.report.figure import Figure
from kvscape.report.frame import from_perplexities, from_records, varying
from kvscape.report.memory import memory_figures, quantization_compare
from kvscape.report.pareto import pareto
from kvscape.report.perplexity import perplexity_vs_quantization
from kvscape.report.speed import MEASURES, speed_vs
from kvscape.results import PerplexityRecord, Record
from kvscape.results.tables import model_label


def study_figures(
    records: Sequence[Record],
    perplexities: Sequence[PerplexityRecord] = (),
    front: Sequence[Record] = (),
    point: dict[str, Any] | None = None,
) -> dict[str, list[Figure]]:
    """Figures by the heading they stand under; raise ResultsError when nothing was measured."""
    measured = [record for record in records if record.status == "ok"]
    scored = [record for record in perplexities if record.status == "ok"]
    sections = {"The map": _maps(measured, front, point)}
    sections["Memory"] = [*_memory(measured), quantization_compare(from_records(measured))]
    if scored:
        name = f"{scored[0].text}_ppl_vs_quant"
        sections["Quality"] = [perplexity_vs_quantization(from_perplexities(scored), name)]
    frame = from_records(measured)
    for kind in MEASURES:
        sections[kind.capitalize()] = [speed_vs(frame, kind, parameter) for parameter in _speed_parameters(frame)]
    return sections


def _speed_parameters(frame: pl.DataFrame) -> list[str]:
    return list(dict.fromkeys(["quantization", *varying(frame)]))


def _maps(measured: Sequence[Record], front: Sequence[Record], point: dict[str, Any] | None) -> list[Figure]:
    figures = [pareto(measured, front, point)]
    if any("perplexity" in record.metrics for record in measured):
        figures.append(pareto(measured, front, point, "perplexity"))
    return figures


def _memory(measured: Sequence[Record]) -> list[Figure]:
    """The memory figures of each model and quantization; a window that is off everywhere has no figure."""
    by_label: dict[str, list[Record]] = {}
    for record in measured:
        by_label.setdefault(model_label(record.parameters), []).append(record)
    slides = len({record.parameters["sliding_window_size"] for record in measured}) > 1
    figures = [figure for label, group in by_label.items() for figure in memory_figures(from_records(group), label)]
    return [figure for figure in figures if slides or not figure.name.endswith("_vs_sliding")]
