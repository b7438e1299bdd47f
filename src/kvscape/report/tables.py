"""The study as a table: for the terminal, for Markdown, and as plain rows for the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from kvscape.report.points import untold
from kvscape.report.quantity import PARAMETERS, QUANTITIES, SHORT
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
_WORDS = ("subject", "endpoint", "quantization", "kv_dtype")


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
    names = varying_parameters(records)
    measures = [name for name in SHOWN if any(name in record.metrics for record in records)]
    best = [record.parameters for record in front]
    return Cells(
        headings=[*(SHORT[name] for name in (*names, *measures)), "status"],
        units=[*("" for _ in names), *(QUANTITIES[name].unit for name in measures), ""],
        rows=[[*_parameters(r, names), *_measures(r, measures), r.status] for r in records],
        reasons=[record.reason for record in records],
        marked=[record.parameters in best for record in records],
        numeric=[*(name not in _WORDS for name in names), *(True for _ in measures), False],
    )


def varying_parameters(records: Sequence[Record]) -> list[str]:
    """Quantization, KV precision, and every other parameter, or the subject, that is not the same everywhere."""
    always = ("quantization", "kv_dtype")
    names = ("subject", "endpoint", *PARAMETERS, "concurrency", "request_rate")
    return [name for name in names if name in always or len({r.parameters.get(name) for r in records}) > 1]


def _parameters(record: Record, names: Sequence[str]) -> list[str]:
    known = {**record.parameters, **untold(record.parameters)}
    return [_plain(name, known.get(name)) for name in names]


def _plain(name: str, value: Any) -> str:
    if name == "sliding_window_size" and value == -1:
        return "off"
    return f"{value:,}" if isinstance(value, int) else str(value)


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
