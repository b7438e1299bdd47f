"""The seed's CSV files: their names and columns."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kvscape.errors import ResultsError
from kvscape.files import write_text
from kvscape.results.divergence import NUMBERS, Divergence
from kvscape.results.record import PerplexityRecord, Record

PARAMETERS = (
    "model",
    "quantization",
    "embedding_quantization",
    "calibrate",
    "activation",
    "device",
    "subject",
    "threads",
    "context_window_size",
    "prefill_chunk_size",
    "max_batch_size",
    "max_total_sequence_length",
    "sliding_window_size",
    "attention_sink_size",
    "kv_dtype",
    "page_size",
    "prefix_cache",
    "mixed_chunk_size",
    "prompt_lookup_tokens",
    "prompt_tokens",
    "max_tokens",
    "num_runs",
    "seed",
    "precision",
    "num_requests",
    "request_rate",
)
RESULTS = (
    "kv_cache_bytes",
    "kv_bytes_per_token",
    "weights_bytes",
    "workspace_bytes",
    "runtime_bytes",
    "total_bytes",
    "peak_rss_bytes",
    "bits_per_weight",
    "chars_per_s",
    "perplexity",
)
METRICS = (
    "prefill_tokens_per_s",
    "decode_tokens_per_s",
    "ttft_s",
    "tpot_s",
    "itl_p50_s",
    "itl_p99_s",
    "e2e_s",
)
INTERVALS = ("prefill_tokens_per_s", "decode_tokens_per_s", "ttft_s", "tpot_s", "e2e_s")
PERPLEXITY = (
    "perplexity",
    "standard_error",
    "mean_nll",
    "bits_per_byte",
    "tokens_scored",
    "unit",
    "protocol",
    "context",
    "stride",
    "limit",
    "text",
    "text_tokens",
    "text_sha256",
    "bits_per_weight",
    "paired_with",
)
_QUALITY = PARAMETERS[: PARAMETERS.index("kv_dtype") + 1]
"""The parameters that a quality can depend on."""
_MEASURE = ("protocol", "context", "stride", "limit", "text_sha256")
_BOUNDS = tuple(f"{name}_{side}" for name in INTERVALS for side in ("low", "high"))


def model_label(parameters: dict[str, object]) -> str:
    """``<model>-<quantization>``, as it stands in file names and legends."""
    name = str(parameters["model"]).rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")
    return f"{name}-{parameters['quantization']}"


def write_record_tables(records: Iterable[Record], folder: Path, keep: bool = False) -> list[Path]:
    """Write ``kv_cache_dse_{results,metrics}_<model>.csv`` for each model; return the paths.

    ``keep`` leaves an existing file's rows of other design points where they are.
    """
    by_model: dict[str, list[Record]] = {}
    for record in records:
        by_model.setdefault(model_label(record.parameters), []).append(record)
    paths = []
    for label, group in sorted(by_model.items()):
        for kind, columns in (("results", RESULTS), ("metrics", (*METRICS, *_BOUNDS))):
            path = folder / f"kv_cache_dse_{kind}_{label}.csv"
            rows = [{**r.parameters, **r.metrics, **_bounds(r), "status": r.status, "reason": r.reason} for r in group]
            write_table(path, (*PARAMETERS, *columns, "status", "reason"), rows, PARAMETERS if keep else ())
            paths.append(path)
    return paths


def _bounds(record: Record) -> dict[str, float]:
    """The 95 % interval of each median in two columns; empty where there were too few runs."""
    return {
        f"{name}_{side}": value
        for name, interval in record.intervals.items()
        for side, value in zip(("low", "high"), interval, strict=True)
    }


def write_perplexity_table(records: Iterable[PerplexityRecord], path: Path, keep: bool = False) -> None:
    """Write one row for each perplexity, e.g. ``wikitext2_ppl_results.csv``; ``keep`` as for the other tables."""
    rows = [{**r.parameters, **r.to_json()} for r in records]
    key = (*_QUALITY, *_MEASURE, "paired_with")
    write_table(path, (*_QUALITY, *PERPLEXITY), rows, key if keep else ())


def write_divergence_table(records: Iterable[PerplexityRecord], path: Path, keep: bool = False) -> None:
    """Write one row for each divergence, e.g. ``wikitext2_kld_results.csv``; ``keep`` as for the other tables.

    ``kl_histogram`` is the numbers of tokens in the bins of ``KL_EDGES_NATS``, with spaces between.
    """
    rows = [{**r.parameters, **r.to_json(), **_divergence(r.divergence)} for r in records if r.divergence]
    own = (*_QUALITY, *_REFERENCE)
    columns = (*own, *NUMBERS, "kl_histogram", *PERPLEXITY)
    write_table(path, columns, rows, (*own, *_MEASURE) if keep else ())


_REFERENCE = ("reference_model", "reference_quantization", "reference_kv_dtype", "reference_kept")


def _divergence(found: Divergence) -> dict[str, object]:
    reference = {name: found.reference.get(name.removeprefix("reference_"), "") for name in _REFERENCE}
    return {**found.numbers, **reference, "kl_histogram": " ".join(map(str, found.kl_histogram))}


def write_table(path: Path, columns: tuple[str, ...], rows: list[dict[str, object]], key: tuple[str, ...]) -> None:
    """Write a table; with a ``key``, rows of the existing file that no new row replaces stand first."""
    table = _csv(columns, rows)
    new = {_identity(row, key) for row in csv.DictReader(io.StringIO(table))}
    kept = [row for row in _existing(path, columns) if _identity(row, key) not in new] if key else []
    write_text(path, _csv(columns, [*kept, *rows]))


def _existing(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a table that is there already; raise ResultsError when it has other columns."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != columns:
            raise ResultsError(f"cannot add to {path}", "it has other columns", "give another file or remove it")
        return list(reader)


def _identity(row: Mapping[str, str], key: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(row[name] for name in key)


def _csv(columns: tuple[str, ...], rows: Sequence[Mapping[str, object]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
