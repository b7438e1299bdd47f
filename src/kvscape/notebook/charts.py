"""The figures of the report as Altair charts, which a notebook shows and which can be changed further."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from kvscape.errors import ConfigError, ResultsError, near_match
from kvscape.report.effects import effect_figures
from kvscape.report.figure import Chart, Figure
from kvscape.report.frame import from_perplexities, from_records
from kvscape.report.memory import quantization_compare
from kvscape.report.parallel import parallel
from kvscape.report.pareto import pareto
from kvscape.report.perplexity import perplexity_figures
from kvscape.report.points import point_frame
from kvscape.report.prediction import prediction_figures
from kvscape.report.speed import FILE_WORDS, speed_vs
from kvscape.results import PerplexityRecord, Record


@dataclass(frozen=True)
class Charts:
    """What can be drawn of records; ``front`` and the recommended ``point`` stand out."""

    records: Sequence[Record]
    perplexities: Sequence[PerplexityRecord] = ()
    front: Sequence[Record] = ()
    point: Mapping[str, Any] | None = None

    def marking(self, point: Mapping[str, Any]) -> "Charts":
        """The same charts with a point, as ``Recommendation.point`` is, that is named in them."""
        return replace(self, point=point)

    def pareto(self, x: str = "total_bytes", y: str = "decode_tokens_per_s") -> Chart:
        """Two measures against each other, with intervals; a staircase joins the best."""
        return pareto(self._points(), x, y).chart

    def parallel(self) -> Chart:
        """Every point as a line over its knobs and measures."""
        return parallel(self._points()).chart

    def shares(self) -> Chart:
        """Each knob's share of the variance of each measure; raise ResultsError where there are too few points."""
        return _first(self._effects(), "").chart

    def effects(self, measure: str = "decode_tokens_per_s") -> Chart:
        """Each value's effect on one measure, all else equal."""
        return _first(self._effects()[1:], f"effects_{measure.split('_')[0]}").chart

    def prediction(self, measure: str = "decode_tokens_per_s") -> Chart:
        """What was predicted of the measured points beside what was measured."""
        return _first(prediction_figures(self._points()), f"prediction_{measure}").chart

    def memory(self) -> Chart:
        """Weights and KV cache of each quantization."""
        return quantization_compare(self._measured(), "the study").chart

    def throughput(self, knob: str = "quantization") -> Chart:
        """Prefill and decode speed against one knob."""
        return self._speed("throughput", knob)

    def latency(self, knob: str = "quantization") -> Chart:
        """Time to first token and end to end against one knob."""
        return self._speed("latency", knob)

    def perplexity(self, against: str = "quantization") -> Chart:
        """Perplexity with its standard error against quantization, bits_per_weight or kv_dtype: of the first model."""
        found = perplexity_figures(from_perplexities(self.perplexities), "perplexity", "the study", against)
        return found[0].chart

    def _speed(self, kind: str, knob: str) -> Chart:
        if knob not in FILE_WORDS:
            raise ConfigError(f"unknown knob {knob!r}", "", near_match(knob, FILE_WORDS))
        return speed_vs(self._measured(), kind, knob, "the study").chart

    def _points(self) -> pl.DataFrame:
        return point_frame(self.records, self.front, self.point)

    def _measured(self) -> pl.DataFrame:
        return from_records(record for record in self.records if record.status == "ok")

    def _effects(self) -> list[Figure]:
        return effect_figures(self._points())


def _first(figures: Sequence[Figure], name: str) -> Figure:
    """The figure whose name begins so."""
    found = next((figure for figure in figures if figure.name.startswith(name)), None)
    if found is None:
        raise ResultsError("nothing to plot", "too few points were measured, or none with this", "measure more points")
    return found
