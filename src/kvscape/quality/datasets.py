"""Texts of the Hugging Face hub by name: where they lie, and how their rows become one text."""

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvscape.errors import ConfigError, HubError, near_match
from kvscape.hub import Progress, fetch_dataset_file, silent
from kvscape.plain_text import Text, joined_text
from kvscape.quality.parquet import read_column
from kvscape.quality.wikitext import raw

Join = Callable[[Sequence[str], str], str]


def _wikitext(rows: Sequence[str], protocol: str) -> str:
    """GPTQ, AWQ and Hugging Face's guide put an empty line between rows; llama.cpp and lm-eval have the raw file."""
    return "\n\n".join(rows) if protocol in ("windows", "stride") else raw(rows)


def _spaced(rows: Sequence[str], protocol: str) -> str:
    """As GPTQ joins the sentences of PTB and the pages of C4."""
    return " ".join(rows)


@dataclass(frozen=True)
class Dataset:
    """``files`` are by split, the default one first; ``rows`` bounds those that are read.

    Where ``has_documents`` the rows are documents of their own for protocols that score documents.
    """

    repository: str
    revision: str
    files: Mapping[str, str]
    column: str
    join: Join
    rows: int | None = None
    has_documents: bool = False


def _parquet(config: str, name: str) -> dict[str, str]:
    return {split: f"{config}/{name.format(split)}" for split in ("test", "validation")}


# Pinned, so that a text stays the same and one in the cache needs no network.
_WIKITEXT = ("Salesforce/wikitext", "b08601e04326c79dfdd32d625aee71d232d685c3")
_PTB = ("ptb-text-only/ptb_text_only", "refs/convert/parquet")
_C4 = ("allenai/c4", "607bd4c8450a42878aa9ddc051a65a055450ef87")

DATASETS: Mapping[str, Dataset] = {
    "wikitext2": Dataset(*_WIKITEXT, _parquet("wikitext-2-raw-v1", "{}-00000-of-00001.parquet"), "text", _wikitext),
    "wikitext103": Dataset(*_WIKITEXT, _parquet("wikitext-103-raw-v1", "{}-00000-of-00001.parquet"), "text", _wikitext),
    "ptb": Dataset(*_PTB, _parquet("penn_treebank", "{}/0000.parquet"), "sentence", _spaced),
    # The first 1,100 pages of the first file, as GPTQ takes them.
    "c4-sample": Dataset(
        *_C4, {"validation": "en/c4-validation.00000-of-00008.json.gz"}, "text", _spaced, 1100, has_documents=True
    ),
}


def find_dataset(name: str, split: str | None) -> tuple[Dataset, str]:
    """Raise ConfigError with the near match of a name or a split that does not exist."""
    if name not in DATASETS:
        raise ConfigError(f"unknown dataset {name!r}", "", near_match(name, DATASETS))
    dataset = DATASETS[name]
    chosen = next(iter(dataset.files)) if split is None else split
    if chosen not in dataset.files:
        raise ConfigError(f"{name} has no split {chosen!r}", "", near_match(chosen, dataset.files))
    return dataset, chosen


def dataset_text(name: str, split: str | None, protocol: str, progress: Progress = silent) -> Text:
    """Download a split where the cache does not hold it, and join its rows as ``protocol`` has them.

    Raises ConfigError for an unknown name, HubError for what cannot be downloaded or is damaged.
    """
    dataset, chosen = find_dataset(name, split)
    path = fetch_dataset_file(dataset.repository, dataset.revision, dataset.files[chosen], progress)
    rows = _rows(path, dataset)[: dataset.rows]
    default = chosen == next(iter(dataset.files))
    text = joined_text(name if default else f"{name}-{chosen}", rows, "\n", f"{name}, {chosen}")
    return Text(text.name, dataset.join(rows, protocol), text.documents if dataset.has_documents else ())


def _rows(path: Path, dataset: Dataset) -> list[str]:
    if path.suffix != ".gz":
        return read_column(path, dataset.column)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = [line for line, _ in zip(file, range(dataset.rows or 0), strict=False)]
        return [str(json.loads(line)[dataset.column]) for line in lines]
    except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
        raise HubError(f"{path} is damaged", f"{type(error).__name__}: {error}", "remove it and try again") from None
