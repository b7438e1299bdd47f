"""The figure of a long text through a small cache: perplexity along the stream, with and without sinks."""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import altair as alt

from kvscape.errors import ResultsError
from kvscape.report.figure import Figure, figure
from kvscape.results import PerplexityRecord
from kvscape.results.tables import model_label

# Tol's bright palette, as in the other figures.
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccaa22", "#aa3377", "#66aadd", "#555555")
_GIVE = "give what 'kvscape ppl --json' prints"
_NAMES = tuple(field.name for field in fields(PerplexityRecord))


def read_streams(paths: Sequence[Path]) -> list[PerplexityRecord]:
    """The records of JSON lines files that have a curve; raise ResultsError when there is none, or a line is none."""
    found = [record for path in paths for record in _read(path) if record.curve and record.status == "ok"]
    if not found:
        where = ", ".join(map(str, paths))
        raise ResultsError(f"{where} has no stream", "no record has a curve", "measure with --protocol stream --json")
    return found


def _read(path: Path) -> list[PerplexityRecord]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        return [PerplexityRecord.from_json({name: row[name] for name in _NAMES if name in row}) for row in rows]
    except OSError as error:
        raise ResultsError(f"cannot read {path}", error.strerror or str(error), _GIVE) from None
    except (ValueError, TypeError, RecursionError) as error:
        why = str(error).splitlines()[0]
        raise ResultsError(f"{path} holds no perplexities", why, _GIVE) from None


def perplexity_along_streams(records: Sequence[PerplexityRecord], name: str) -> Figure:
    """A line for each record, over the tokens of each mark. Raises ResultsError for streams that do not compare."""
    _check_comparable(records)
    labels = _labels(records)
    rows = [row for record, label in zip(records, labels, strict=True) for row in _rows(record, label)]
    order = list(dict.fromkeys(labels))
    colour = alt.Color(
        "stream:N", title=None, scale=alt.Scale(domain=order, range=[*_COLOURS[: len(order)]]), sort=order
    )
    title = f"Perplexity of {records[0].stride:,} tokens (lower is better)"
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("tokens:Q", title="Position in the text (tokens)", scale=alt.Scale(domainMin=0)),
        y=alt.Y("perplexity:Q", title=title, scale=alt.Scale(type="log", nice=False)),
        color=colour,
        tooltip=["stream:N", "tokens:Q", "perplexity:Q", "running_perplexity:Q"],
    )
    chart = (base.mark_line(strokeWidth=2) + base.mark_point(filled=True, size=45, opacity=1)).properties(
        width=560, height=280
    )
    return figure(name, "A long text through a small cache", _subtitle(records), chart)


def _check_comparable(records: Sequence[PerplexityRecord]) -> None:
    for value, what in (("protocol", "protocols"), ("stride", "strides"), ("text_sha256", "texts")):
        if len({getattr(record, value) for record in records}) > 1:
            raise ResultsError(f"streams of different {what}", "their perplexities do not compare", "draw them apart")


def _rows(record: PerplexityRecord, label: str) -> list[dict[str, Any]]:
    """The marks of a curve; a last one of a few tokens is left out, since chance alone moves it."""
    starts = [0.0, *(mark["tokens"] for mark in record.curve)]
    marks = zip(record.curve, starts, strict=False)
    return [{**mark, "stream": label} for mark, start in marks if mark["tokens"] - start >= record.stride / 2]


def _labels(records: Sequence[PerplexityRecord]) -> list[str]:
    """What tells the streams apart: sinks always, window, model and KV precision where they differ."""
    parts = [(_sinks(r), _window(r), model_label(r.parameters), f"KV {r.parameters['kv_dtype']}") for r in records]
    varying = [True, *(len({part[index] for part in parts}) > 1 for index in range(1, 4))]
    return [", ".join(text for text, shown in zip(part, varying, strict=True) if shown and text) for part in parts]


def _sinks(record: PerplexityRecord) -> str:
    if record.parameters["sliding_window_size"] == -1:
        return "no window"
    count = record.parameters["attention_sink_size"]
    return f"{count or 'no'} sink{'' if count == 1 else 's'}"


def _window(record: PerplexityRecord) -> str:
    size = record.parameters["sliding_window_size"]
    return "" if size == -1 else f"window {size:,}"


def _subtitle(records: Sequence[PerplexityRecord]) -> str:
    shown = [records[0].text]
    for values in zip(*((model_label(r.parameters), f"KV {r.parameters['kv_dtype']}") for r in records), strict=True):
        shown += values[:1] if len(set(values)) == 1 else ()
    windows = {window for window in map(_window, records) if window}
    return ", ".join([*shown, *(windows if len(windows) == 1 else ())])
