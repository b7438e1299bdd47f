"""A study's folder: the store, and what is written from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvscape.errors import ConfigError, ResultsError, near_match

if TYPE_CHECKING:
    from kvscape.results import PerplexityRecord, Record
    from kvscape.study.budget import Budget
    from kvscape.study.recommend import Recommendation
    from kvscape.study.store import Store

STORE, PAGE, PLOTS = "study.sqlite", "report.html", "plots"
_DEFAULT_INCREASE = "2%"


@dataclass(frozen=True)
class StudyContent:
    """What the store holds of one study."""

    name: str
    records: "Sequence[Record]"
    perplexities: "Sequence[PerplexityRecord]"


def read_study(folder: Path, name: str | None) -> StudyContent:
    """Read a finished study; raise ResultsError when the folder has none, ConfigError when the name must be given."""
    from kvscape.study.store import Store

    if not (folder / STORE).is_file():
        raise ResultsError(f"no study in {folder}", f"there is no {STORE}", "run 'kvscape study FILE.toml' first")
    with Store(folder / STORE) as store:
        return study_content(store, _chosen(store.studies(), name, folder))


def study_content(store: "Store", name: str) -> StudyContent:
    return StudyContent(name, store.study_records(name), store.study_perplexities(name))


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

    memory, speed, increase = flags["max_memory"], flags["min_decode"], flags["max_perplexity_increase"]
    if memory is speed is increase is None and any("perplexity" in record.metrics for record in study.records):
        increase = _DEFAULT_INCREASE
    return Budget(
        max_total_bytes=None if memory is None else parse_bytes(memory),
        min_decode_tokens_per_s=speed,
        max_perplexity_ratio=None if increase is None else parse_increase(increase),
        baseline=flags["baseline"],
    )


def write_report(folder: Path, study: StudyContent, recommendation: "Recommendation") -> list[Path]:
    """Write the page and a PNG of each figure; return their paths, the page first."""
    from kvscape.report.page import write_page
    from kvscape.report.study_figures import study_figures
    from kvscape.study.pareto import pareto_front

    front = pareto_front(study.records)
    sections = study_figures(study.records, study.perplexities, front, recommendation.point)
    page = folder / PAGE
    write_page(page, f"Study {study.name}", study.records, sections, front, recommendation.to_json())
    plots = [figure.write(folder / PLOTS / f"{figure.name}.png") for group in sections.values() for figure in group]
    return [page, *plots]
