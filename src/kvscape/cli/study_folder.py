"""A study's folder: the store, and what is written from it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvscape.config import ASKED, Asked, Workload, asked_of
from kvscape.errors import ConfigError, ResultsError, near_match

if TYPE_CHECKING:
    from kvscape.results import PerplexityRecord, Record
    from kvscape.study.budget import Budget
    from kvscape.study.recommend import Recommendation
    from kvscape.study.space import Space
    from kvscape.study.store import Store

STORE, PAGE, PLOTS = "study.sqlite", "report.html", "plots"
_DEFAULT_INCREASE = "2%"


@dataclass(frozen=True)
class StudyContent:
    """What the store holds of one study."""

    name: str
    records: "Sequence[Record]"
    perplexities: "Sequence[PerplexityRecord]" = ()
    predictions: "Sequence[Record]" = ()

    @property
    def known(self) -> "list[Record]":
        """What was measured, and what is predicted beside it."""
        return [*self.records, *self.predictions]


def read_study(folder: Path, name: str | None) -> StudyContent:
    """Read a finished study; raise ResultsError when the folder has none, ConfigError when the name must be given."""
    from kvscape.study.store import Store

    if not (folder / STORE).is_file():
        raise ResultsError(f"no study in {folder}", f"there is no {STORE}", "run 'kvscape study FILE.toml' first")
    with Store(folder / STORE) as store:
        return study_content(store, _chosen(store.studies(), name, folder))


def study_content(store: "Store", name: str) -> StudyContent:
    """Read a study's records, and what was predicted of them and of the rest of its space."""
    from kvscape.study.predictions import joined, read_predictions

    predictions = read_predictions(store.path.parent, name)
    records, rest = joined(store.study_records(name), predictions)
    return StudyContent(name, records, store.study_perplexities(name), rest)


def _chosen(names: list[str], wanted: str | None, folder: Path) -> str:
    if not names:
        raise ResultsError(f"no study in {folder}", "its store is empty", "run 'kvscape study FILE.toml' first")
    if wanted is None and len(names) > 1:
        raise ConfigError(f"{folder} holds {len(names)} studies", "one must be chosen", f"--study {' or '.join(names)}")
    if wanted is not None and wanted not in names:
        raise ConfigError(f"no study {wanted!r} in {folder}", "", near_match(wanted, names))
    return wanted or names[0]


def budget(flags: dict[str, Any], study: StudyContent) -> "Budget":
    """The limits that flags give; with none at all, a perplexity at most 2 % above the best, where it was measured."""
    from kvscape.study.budget import Budget, parse_bytes, parse_increase

    memory, increase = flags["max_memory"], flags["max_perplexity_increase"]
    limits = (memory, increase, *(flags.get(name) for name in ("min_decode", "max_ttft", "min_context", "concurrency")))
    if limits.count(None) == len(limits) and any("perplexity" in record.metrics for record in study.records):
        increase = _DEFAULT_INCREASE
    return Budget(
        max_total_bytes=None if memory is None else parse_bytes(memory),
        min_decode_tokens_per_s=flags["min_decode"],
        max_perplexity_ratio=None if increase is None else parse_increase(increase),
        baseline=flags["baseline"],
        min_context=flags.get("min_context"),
        concurrency=flags.get("concurrency"),
        max_ttft_s=flags.get("max_ttft"),
        objective=flags.get("objective") or Budget.objective,
        workload=_workload(flags),
    )


def check_budget(flags: dict[str, Any], space: "Space") -> None:
    """Before anything is measured: raise ConfigError for limits that no point of a space could be judged by."""
    wanted = budget(flags, StudyContent(space.name, ()))
    formats = dict.fromkeys(point.build.quantization for point in space.points)
    if wanted.baseline is not None and space.points and wanted.baseline not in formats:
        raise ConfigError(f"no baseline {wanted.baseline!r} in the study", "", near_match(wanted.baseline, formats))
    if space.quality is None and (wanted.max_perplexity_ratio is not None or wanted.objective == "quality"):
        raise ConfigError("a limit on quality", "the study measures no perplexity", "add a table [ppl], or --ppl")


def _workload(flags: dict[str, Any]) -> Asked | None:
    """The workload that a point is judged by; None is the study's own. ``--concurrency`` is a need here, no load."""
    given = {name: flags[name] for name in ASKED if name != "concurrency" and flags.get(name) is not None}
    return asked_of(asdict(Workload(**given))) if given else None


def write_report(folder: Path, study: StudyContent, recommendation: "Recommendation") -> list[Path]:
    """Write the page and a PNG of each figure; return their paths, the page first."""
    from kvscape.report.page import write_page
    from kvscape.report.study_figures import study_figures
    from kvscape.study.pareto import pareto_front

    front = pareto_front(study.records)
    sections = study_figures(study.known, study.perplexities, front, recommendation.point)
    page = folder / PAGE
    write_page(page, f"Study {study.name}", study.known, sections, front, recommendation.to_json())
    plots = [figure.write(folder / PLOTS / f"{figure.name}.png") for group in sections.values() for figure in group]
    return [page, *plots]
