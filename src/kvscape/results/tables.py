"""The seed's CSV files: their names and columns."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from kvscape.files import write_text
from kvscape.results.record import PerplexityRecord, Record

PARAMETERS = (
    "model",
    "quantization",
    "embedding_quantization",
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
    "prompt_tokens",
    "max_tokens",
    "num_runs",
    "seed",
)
RESULTS = (
    "kv_cache_bytes",
    "kv_bytes_per_token",
    "weights_bytes",
    "workspace_bytes",
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
PERPLEXITY = (
    "perplexity",
    "standard_error",
    "mean_nll",
    "tokens_scored",
    "protocol",
    "context",
    "text",
    "text_sha256",
)


def model_label(parameters: dict[str, object]) -> str:
    """``<model>-<quantization>``, as it stands in file names and legends."""
    name = str(parameters["model"]).rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")
    return f"{name}-{parameters['quantization']}"


def write_record_tables(records: Iterable[Record], folder: Path) -> list[Path]:
    """Write ``kv_cache_dse_{results,metrics}_<model>.csv`` for each model; return the paths."""
    by_model: dict[str, list[Record]] = {}
    for record in records:
        by_model.setdefault(model_label(record.parameters), []).append(record)
    paths = []
    for label, group in sorted(by_model.items()):
        for kind, columns in (("results", RESULTS), ("metrics", METRICS)):
            path = folder / f"kv_cache_dse_{kind}_{label}.csv"
            rows = [{**r.parameters, **r.metrics, "status": r.status, "reason": r.reason} for r in group]
            write_text(path, _csv((*PARAMETERS, *columns, "status", "reason"), rows))
            paths.append(path)
    return paths


def write_perplexity_table(records: Iterable[PerplexityRecord], path: Path) -> None:
    """Write one row for each perplexity, e.g. ``wikitext2_ppl_results.csv``."""
    rows = [{**r.parameters, **r.to_json()} for r in records]
    write_text(path, _csv((*PARAMETERS[:11], "kv_dtype", *PERPLEXITY), rows))


def _csv(columns: tuple[str, ...], rows: list[dict[str, object]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
