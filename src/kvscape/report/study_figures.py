"""Which figures a study gets, and under which heading they stand."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from kvscape.errors import ResultsError
from kvscape.report.effects import effect_figures
from kvscape.report.figure import Figure
from kvscape.report.frame import from_perplexities, from_records, varying
from kvscape.report.load import load_figures
from kvscape.report.memory import memory_figures, quantization_compare
from kvscape.report.parallel import parallel
from kvscape.report.pareto import maps
from kvscape.report.perplexity import quality_figures
from kvscape.report.points import ENDPOINT, has, point_frame
from kvscape.report.prediction import prediction_figures
from kvscape.report.speed import MEASURES, speed_figures
from kvscape.results import PerplexityRecord, Record
from kvscape.results.tables import model_label

MAP, CHOICES, EFFECTS, PREDICTION = "The map", "Choices", "What moves each measure", "Predicted and measured"
LOAD = "Servers under load"


def study_figures(
    records: Sequence[Record],
    perplexities: Sequence[PerplexityRecord] = (),
    front: Sequence[Record] = (),
    point: Mapping[str, Any] | None = None,
) -> dict[str, list[Figure]]:
    """Figures by the heading they stand under; raise ResultsError when nothing was measured."""
    local, remote = _by_place(records)
    if not (local or remote):
        raise ResultsError("nothing was measured", "no point has a record that is ok", "run the study again")
    points = point_frame(records, front, point)
    sections = {
        MAP: maps(points) if has(points, "total_bytes") else [],
        CHOICES: [parallel(points)],
        EFFECTS: effect_figures(points),
        PREDICTION: prediction_figures(points),
        **_measured(local, remote, perplexities),
    }
    return {heading: figures for heading, figures in sections.items() if figures}


def _by_place(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """What was measured here, and on servers."""
    measured = [record for record in records if record.status == "ok"]
    remote = [record for record in measured if record.parameters.get("subject") == ENDPOINT]
    return [record for record in measured if record not in remote], remote


def _measured(
    records: Sequence[Record], loads: Sequence[Record], perplexities: Sequence[PerplexityRecord]
) -> dict[str, list[Figure]]:
    """One figure for each measure and knob, from what was measured alone; a server's are those of its load."""
    sections = {LOAD: load_figures(from_records(loads))} if _has_axis(loads) else {}
    if not records:
        return sections
    frame = from_records(records)
    scored = [record for record in perplexities if record.status == "ok"]
    quality = quality_figures(from_perplexities(scored), f"{scored[0].text}_ppl") if scored else []
    speeds = {kind.capitalize(): speed_figures(frame, kind, _speed_parameters(frame)) for kind in MEASURES}
    return {"Memory": [*_memory(records), quantization_compare(frame)], "Quality": quality, **speeds, **sections}


def _has_axis(loads: Sequence[Record]) -> bool:
    return any(load.parameters[name] is not None for load in loads for name in ("concurrency", "request_rate"))


def _speed_parameters(frame: pl.DataFrame) -> list[str]:
    return list(dict.fromkeys(["quantization", *varying(frame)]))


def _memory(measured: Sequence[Record]) -> list[Figure]:
    """The memory figures of each model and quantization; a window that is off everywhere has no figure."""
    by_label: dict[str, list[Record]] = {}
    for record in measured:
        by_label.setdefault(model_label(record.parameters), []).append(record)
    slides = len({record.parameters["sliding_window_size"] for record in measured}) > 1
    figures = [figure for label, group in by_label.items() for figure in memory_figures(from_records(group), label)]
    return [figure for figure in figures if slides or not figure.name.endswith("_vs_sliding")]
