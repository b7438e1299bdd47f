"""The study as a table: for the terminal, for Markdown, and as plain rows for the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from kvscape.report.points import KNOBS, MACHINE, knob_values, untold
from kvscape.report.quantity import QUANTITIES, SHORT, level_words
from kvscape.results import Record

SHOWN = (
    "total_bytes",
    "kv_cache_bytes",
    "prefill_tokens_per_s",
    "decode_tokens_per_s",
    "ttft_s",
    "tpot_s",
    "perplexity",
)


@dataclass(frozen=True)
class Cells:
    """A table before it has a form; the last column is the status, ``reasons`` says more, ``marked`` is the front."""

    headings: list[str]
    units: list[str]
    rows: list[list[str]]
    reasons: list[str]
    marked: list[bool]
    numeric: list[bool]

    @property
    def explained(self) -> list[list[str]]:
        """The rows with their reasons beside the status."""
        return [
            [*row[:-1], f"{row[-1]}: {why}" if why else row[-1]]
            for row, why in zip(self.rows, self.reasons, strict=True)
        ]


def cells(records: Sequence[Record], front: Sequence[Record] = ()) -> Cells:
    """One row for each record: the parameters that vary, then ``SHOWN`` where any record has it, then the status."""
    knobs = knob_values(records)
    names = varying_parameters(knobs)
    measures = [name for name in SHOWN if any(name in record.metrics for record in records)]
    best = [record.parameters for record in front]
    return Cells(
        headings=[*(SHORT[name] for name in (*names, *measures)), "status"],
        units=[*("" for _ in names), *(QUANTITIES[name].unit for name in measures), ""],
        rows=[
            [*_parameters(r, own, names), *_measures(r, measures), r.status]
            for r, own in zip(records, knobs, strict=True)
        ],
        reasons=[record.reason for record in records],
        marked=[record.parameters in best for record in records],
        numeric=[*(_is_numeric(knobs, name) for name in names), *(True for _ in measures), False],
    )


def varying_parameters(knobs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Quantization, KV precision, and every other knob of ``points.knob_values`` that is not the same everywhere."""
    always = ("quantization", "kv_dtype")
    return [name for name in KNOBS if name in always or len(_levels(knobs, name)) > 1]


def _levels(knobs: Sequence[Mapping[str, Any]], name: str) -> set[Any]:
    return {own[name] for own in knobs} - ({None} if name == MACHINE else set())


def _is_numeric(knobs: Sequence[Mapping[str, Any]], name: str) -> bool:
    return all(isinstance(level, int | float) for level in _levels(knobs, name) - {None})


def _parameters(record: Record, knobs: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    known = {**knobs, **untold(record.parameters)}
    return [level_words(known[name]) for name in names]


def _measures(record: Record, names: Sequence[str]) -> list[str]:
    return [QUANTITIES[name].shown(record.metrics.get(name)) for name in names]


def terminal_table(table: Cells, title: str = "") -> Table:
    """A rich table; rows of the front are bold and begin with a star, which a file keeps as well."""
    out = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    out.add_column("")
    for heading, unit, numeric in zip(table.headings, table.units, table.numeric, strict=True):
        words = f"{heading}\n[dim]{unit}[/dim]" if unit else heading
        out.add_column(words, justify="right" if numeric else "left", no_wrap=True)
    for row, marked in zip(table.rows, table.marked, strict=True):
        out.add_row("*" if marked else "", *row, style="bold" if marked else None)
    return out


def markdown_table(table: Cells) -> str:
    """GitHub's Markdown; rows of the front are bold."""
    headings = [f"{name} ({unit})" if unit else name for name, unit in zip(table.headings, table.units, strict=True)]
    rules = ["---:" if numeric else "---" for numeric in table.numeric]
    rows = [
        [f"**{cell}**" if marked else cell for cell in row]
        for row, marked in zip(table.explained, table.marked, strict=True)
    ]
    return "\n".join(_line(row) for row in (headings, rules, *rows)) + "\n"


def _line(row: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
