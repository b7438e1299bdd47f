"""A study as one object: run it, read it as a data frame, draw it, ask it what to ship."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from kvscape.config.fields import from_mapping
from kvscape.errors import ConfigError, ResultsError, near_match
from kvscape.notebook.charts import Charts
from kvscape.notebook.frame import study_frame
from kvscape.report.page import write_page
from kvscape.report.study_figures import study_figures
from kvscape.results import PerplexityRecord, Record
from kvscape.study import (
    OBJECTIVES,
    Budget,
    Executor,
    LiveView,
    ProcessExecutor,
    Recommendation,
    Space,
    Store,
    export_study,
    pareto_front,
    parse_bytes,
    parse_increase,
    recommend,
)
from kvscape.study import Study as Runner
from kvscape.study.predict_space import predict_space
from kvscape.study.predictions import joined, read_predictions

STORE, PAGE = "study.sqlite", "report.html"


@dataclass(frozen=True)
class Study:
    """A space and the folder that keeps what is measured of it, the same that ``kvscape study --out`` writes."""

    space: Space
    folder: Path | str = Path("results")

    @classmethod
    def open(cls, folder: Path | str = "results", name: str | None = None) -> "Study":
        """A study that was run before; raise ConfigError when the folder holds several and none is named."""
        path = Path(folder) / STORE
        if not path.is_file():
            raise ResultsError(f"no study in {folder}", f"there is no {STORE}", "run one first")
        with Store(path) as store:
            names = store.studies()
        if name is None and len(names) != 1:
            raise ConfigError(f"{folder} holds {len(names)} studies", "one must be chosen", f"name one of {names}")
        chosen = name or names[0]
        if chosen not in names:
            raise ConfigError(f"no study {chosen!r} in {folder}", "", near_match(chosen, names))
        return cls(Space(chosen, ()), folder)

    def run(self, retry: bool = False, executor: Executor | None = None) -> "Study":
        """Measure what the folder does not hold yet, each point in a process of its own; ``retry`` what failed before.

        Raises no error for what a point does: that is its record's status and reason.
        """
        with Store(self._store) as store, LiveView() as progress:
            measure = executor or ProcessExecutor(self.space.timeout_s)
            Runner(self.space, store, measure, progress, retry).run()
            export_study(store, self.space.name, Path(self.folder))
        return self

    def predict(self) -> "Study":
        """Predict every point of the space from what was measured, as ``kvscape predict`` does."""
        with Store(self._store) as store:
            predict_space(self.space, store)
        return self

    @property
    def records(self) -> list[Record]:
        """What was measured, each with the perplexity of its quality, and what ``kvscape predict`` says beside it."""
        with Store(self._store) as store:
            measured = store.study_records(self.space.name)
        beside, rest = joined(measured, read_predictions(Path(self.folder), self.space.name))
        return [*beside, *rest]

    @property
    def perplexities(self) -> list[PerplexityRecord]:
        with Store(self._store) as store:
            return store.study_perplexities(self.space.name)

    def frame(self) -> pl.DataFrame:
        """One row for each point, in bytes, seconds and tokens per second."""
        return study_frame(self.records)

    def front(self) -> pl.DataFrame:
        """The rows that nothing beats in memory, decode speed and, where it was measured, perplexity at once."""
        return study_frame(_front(self.records))

    def recommend(
        self, max_memory: str | None = None, max_perplexity_increase: str | None = None, **limits: Any
    ) -> Recommendation:
        """The point to ship; ``max_memory`` is "200 MiB", ``max_perplexity_increase`` "2%", the rest as in Budget."""
        if max_memory is not None:
            limits["max_total_bytes"] = parse_bytes(max_memory)
        if max_perplexity_increase is not None:
            limits["max_perplexity_ratio"] = parse_increase(max_perplexity_increase)
        return recommend(self.records, from_mapping(Budget, limits, "recommend"), self.perplexities)

    @property
    def charts(self) -> Charts:
        """The report's figures as Altair charts; ``charts.marking(point)`` names the recommended one."""
        records = self.records
        return Charts(records, self.perplexities, _front(records))

    def report(self, recommendation: Recommendation | None = None) -> Path:
        """Write the page into the folder; return its path."""
        records = self.records
        answer = (recommendation or self.recommend()).to_json()
        front, page = _front(records), Path(self.folder) / PAGE
        figures = study_figures(records, self.perplexities, front, answer["point"])
        write_page(page, f"Study {self.space.name}", records, figures, front, answer)
        return page

    @property
    def _store(self) -> Path:
        return Path(self.folder) / STORE


def _front(records: Sequence[Record]) -> list[Record]:
    known = {name: way for name, way in OBJECTIVES.items() if any(name in record.metrics for record in records)}
    return pareto_front(records, known)
