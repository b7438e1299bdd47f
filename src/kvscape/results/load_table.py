"""The CSV file of loads on endpoints: one row for each."""

from collections.abc import Iterable
from pathlib import Path

from kvscape.results.record import LATENCIES, Record
from kvscape.results.tables import write_table

PARAMETERS = (
    "model",
    "endpoint",
    "endpoint_model",
    "endpoint_route",
    "endpoint_retries",
    "prompt_tokens",
    "max_tokens",
    "lengths",
    "concurrency",
    "request_rate",
    "num_requests",
    "duration_s",
    "num_runs",
    "seed",
    "slo",
)
METRICS = (
    "requests_per_s",
    "goodput_requests_per_s",
    "prefill_tokens_per_s",
    "decode_tokens_per_s",
    "chars_per_s",
    "failed_share",
    "ttft_s",
    "tpot_s",
    "e2e_s",
    *LATENCIES,
    "itl_p50_s",
    "itl_p90_s",
    "itl_p95_s",
    "itl_p99_s",
)
FACTS = ("requests", "counted_requests", "tokens_counted_by", "mean_prompt_tokens", "mean_output_tokens")
FILE = "endpoint_load.csv"


def write_load_table(records: Iterable[Record], folder: Path, keep: bool = False) -> list[Path]:
    """Write ``endpoint_load.csv``; ``keep`` leaves rows of other loads where they are. ``errors`` reads "12 x 429".

    What a server does not tell, as its memory, has no column.
    """
    rows = [
        {**r.parameters, **r.metrics, **r.environment, "errors": _errors(r), "status": r.status, "reason": r.reason}
        for r in records
    ]
    path = folder / FILE
    write_table(path, (*PARAMETERS, *METRICS, *FACTS, "errors", "status", "reason"), rows, PARAMETERS if keep else ())
    return [path]


def _errors(record: Record) -> str:
    return ", ".join(f"{count} x {status}" for status, count in record.errors.items())
