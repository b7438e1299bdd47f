"""Tables of what ``gpu.py`` measured: ``gpu_tables.py FILE.json... [--write]``, where its files have come to.

Samples of equal rows are joined, and medians count. ``--write`` puts the tables into docs/gpu.md, in the place of those
that are there.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

PAGE = Path(__file__).parents[1] / "docs" / "gpu.md"
BEGIN, END = "<!-- benchmarks/gpu_tables.py writes from here -->", "<!-- to here -->"
OURS, THEIRS = "kvscape", "PyTorch"
METRICS = ("prefill_tokens_per_s", "decode_tokens_per_s")


class Row(NamedTuple):
    """What is measured, and of whom; ``kv_dtype`` is the precision of the cache."""

    who: str
    weights: str
    batch: int
    prompt: int
    kv_dtype: str

    @property
    def label(self) -> str:
        """As ``16x512 f16``, by which rows are chosen."""
        return f"{self.batch}x{self.prompt} {self.kv_dtype}"

    @property
    def peer(self) -> "Row | None":
        """The row of PyTorch that is compared with it."""
        if self.who != OURS or (self.prompt, self.kv_dtype) != (512, "f16") or self.batch not in (1, 16):
            return None
        return self._replace(who=THEIRS, weights="bf16" if self.weights.startswith("q0") else "int4")


@dataclass
class Samples:
    """Metrics of rows, round after round; ``facts`` say where they are from, ``failures`` what is missing."""

    rows: dict[Row, dict[str, list[float]]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, row: Row, found: Mapping[str, float]) -> None:
        for name, value in found.items():
            self.rows.setdefault(row, {}).setdefault(name, []).append(value)

    def join(self, other: "Samples") -> None:
        for row, metrics in other.rows.items():
            for name, values in metrics.items():
                self.rows.setdefault(row, {}).setdefault(name, []).extend(values)
        self.facts = {**self.facts, **other.facts}
        self.failures += other.failures

    def to_json(self) -> str:
        rows = [{**row._asdict(), "metrics": metrics} for row, metrics in self.rows.items()]
        return json.dumps({"facts": self.facts, "failures": self.failures, "rows": rows}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Samples":
        raw = json.loads(text)
        rows = {Row(*(each[name] for name in Row._fields)): each["metrics"] for each in raw["rows"]}
        return cls(rows, raw["facts"], raw["failures"])


def tables(samples: Samples) -> Iterator[str]:
    """Lines of Markdown; nothing of a part that was not measured."""
    ours = [row for row in samples.rows if row.who == OURS]
    pairs = [(row, row.peer) for row in ours if row.peer in samples.rows]
    if ours:
        yield from _speeds(samples, ours)
    if pairs:
        yield ""
        yield from _ratios(samples, [(row, peer) for row, peer in pairs if peer])
    if "copied_bytes_per_s" in samples.facts:
        yield f"\n{THEIRS} copies {samples.facts['copied_bytes_per_s'] / 1e9:,.0f} GB/s."


def _speeds(samples: Samples, rows: Sequence[Row]) -> Iterator[str]:
    yield "| weights | batch | prompt | KV | prefill tokens/s | decode tokens/s | step ms | host ms |"
    yield "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |"
    for row in rows:
        found = _medians(samples, row)
        speeds = " | ".join(f"{found[metric]:,.0f}" for metric in METRICS)
        times = f"{found['step_s'] * 1e3:.2f} | {found['host_s'] * 1e3:.2f}"
        yield f"| {row.weights} | {row.batch} | {row.prompt:,} | {row.kv_dtype} | {speeds} | {times} |"


def _ratios(samples: Samples, pairs: Iterable[tuple[Row, Row]]) -> Iterator[str]:
    yield f"| weights | batch | prefill | {THEIRS}'s | ratio | decode | {THEIRS}'s | ratio |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row, peer in pairs:
        mine, other = _medians(samples, row), _medians(samples, peer)
        parts = (f"{mine[name]:,.0f} | {other[name]:,.0f} | {mine[name] / other[name]:.2f}" for name in METRICS)
        yield f"| {row.weights} / {peer.weights} | {row.batch} | {' | '.join(parts)} |"


def _medians(samples: Samples, row: Row) -> dict[str, float]:
    return {name: median(values) for name, values in samples.rows[row].items()}


def said(samples: Samples) -> str:
    """Where and how often, in a line."""
    facts = samples.facts
    rounds = max((len(values) for metrics in samples.rows.values() for values in metrics.values()), default=0)
    told = ", ".join(str(facts[name]) for name in ("gpu", "driver", "date") if facts.get(name))
    return f"{told}, kvscape {facts.get('kvscape', '')}; medians of up to {rounds} rounds."


def write(page: Path, lines: Iterable[str]) -> None:
    """Put lines between the marks of a page."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the tables of what gpu.py measured.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--write", action="store_true", help=f"put them into {PAGE.name}")
    arguments = parser.parse_args()
    samples = Samples()
    for file in arguments.files:
        samples.join(Samples.from_json(file.read_text(encoding="utf-8")))
    lines = [said(samples), "", *tables(samples), ""]
    print("\n".join(lines + samples.failures))
    if arguments.write:
        write(PAGE, lines)


if __name__ == "__main__":
    main()
