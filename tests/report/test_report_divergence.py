"""The KL histogram carries the records' counts, as shares."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kvscape.errors import ResultsError
from kvscape.report.divergence import kl_histogram
from kvscape.report.frame import read_csv
from kvscape.results import PerplexityRecord
from kvscape.results.divergence import KL_EDGES_NATS, NUMBERS, Divergence
from kvscape.results.tables import write_divergence_table
from made_records import made_perplexities

BINS = len(KL_EDGES_NATS) - 1


def compared(record: PerplexityRecord, place: int) -> PerplexityRecord:
    """Three of four tokens in one bin, the fourth in the next."""
    counts = [0] * BINS
    counts[place], counts[place + 1] = 300, 100
    numbers: dict[str, Any] = dict.fromkeys(NUMBERS, 0.01 * (place + 1))
    of = {"model": "m", "quantization": "q0f32", "kv_dtype": "f32", "kept": ""}
    return replace(record, divergence=Divergence(of, **numbers, kl_histogram=tuple(counts)))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    records = [compared(record, place) for place, record in enumerate(made_perplexities())]
    write_divergence_table([*records, made_perplexities()[0]], tmp_path / "wikitext2_kld_results.csv")
    return tmp_path / "wikitext2_kld_results.csv"


def drawn(path: Path) -> list[dict[str, Any]]:
    """Altair keeps rows under a name of its own."""
    (rows,) = kl_histogram(read_csv([path]), "kld").spec["datasets"].values()
    return list(rows)


def test_every_record_has_a_line_of_its_shares(table: Path) -> None:
    rows = drawn(table)
    assert len(rows) == 4 * BINS
    for place, (quantization, kv_dtype) in enumerate(
        [("auto", "f16"), ("auto", "int8"), ("q8f16_1", "f16"), ("q8f16_1", "int8")]
    ):
        line = [row for row in rows if (row["quantization"], row["kv_dtype"]) == (quantization, kv_dtype)]
        shares = {row["kl_nats"]: row["share"] for row in line if row["share"]}
        assert list(shares.values()) == [0.75, 0.25]
        assert KL_EDGES_NATS[place] < min(shares) < KL_EDGES_NATS[place + 1] < max(shares) < KL_EDGES_NATS[place + 2]
        assert [row["mean_kl_nats"] for row in line if row["is_first"]] == pytest.approx([0.01 * (place + 1)])


def test_unlike_measures_stand_apart(table: Path, tmp_path: Path) -> None:
    other = [replace(compared(made_perplexities()[0], 5), protocol="llamacpp")]
    write_divergence_table(other, table, keep=True)
    measures = {row["measure"] for row in drawn(table)}
    assert measures == {f"wikitext2 · {name} · 512, against q0f32 with KV f32" for name in ("windows", "llamacpp")}


def test_a_window_or_a_limit_makes_a_row_of_its_own(table: Path) -> None:
    one, rows = compared(made_perplexities()[0], 5), len(read_csv([table]))
    windowed = replace(one, parameters={**one.parameters, "sliding_window_size": 64})
    for record in (windowed, replace(one, limit=3)):
        write_divergence_table([record], table, keep=True)
    assert len(read_csv([table])) == rows + 2


def test_it_can_be_drawn(table: Path, tmp_path: Path) -> None:
    path = kl_histogram(read_csv([table]), "kld").write(tmp_path / "kld.svg")
    assert path.read_text().startswith("<svg")


def test_a_row_without_counts_is_refused(table: Path) -> None:
    frame = read_csv([table]).with_columns(kl_histogram=pl.lit("1 2 3"))
    with pytest.raises(ResultsError, match="kl_histogram has no 45 counts"):
        kl_histogram(frame, "kld", "a.csv")
