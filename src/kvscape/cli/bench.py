"""``kvscape bench``: one design point, measured in this process."""

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvscape.cli import options
from kvscape.cli.chosen import ENDPOINT, Flags
from kvscape.cli.loading import design_point, done_jit
from kvscape.cli.output import console, print_json
from kvscape.cli.plan import print_plan
from kvscape.cli.progress import bar
from kvscape.cli.turn import own_turn
from kvscape.config import DesignPoint

if TYPE_CHECKING:
    from kvscape.results import Record

Plan = Annotated[bool, typer.Option("--plan", help="Print the memory that the point needs, term by term; run nothing.")]
OutDir = Annotated[Path | None, typer.Option("--out-dir", help="Folder that gets the point's row in both CSV files.")]


def command(
    context: typer.Context,
    model: options.Model = None,
    quantization: options.Quantization = None,
    embedding_quantization: options.EmbeddingQuantization = None,
    calibrate: options.Calibrate = None,
    activation: options.Activation = None,
    device: options.Device = None,
    model_lib: options.ModelLib = None,
    jit: options.Jit = "on",
    overrides: options.Overrides = "",
    context_window_size: options.ContextWindowSize = None,
    prefill_chunk_size: options.PrefillChunkSize = None,
    mixed_chunk_size: options.MixedChunkSize = None,
    max_batch_size: options.MaxBatchSize = None,
    max_total_sequence_length: options.MaxTotalSequenceLength = None,
    sliding_window_size: options.SlidingWindowSize = None,
    attention_sink_size: options.AttentionSinkSize = None,
    kv_dtype: options.KvDtype = None,
    page_size: options.PageSize = None,
    prefix_cache: options.PrefixCache = None,
    prompt_lookup_tokens: options.PromptLookupTokens = None,
    threads: options.Threads = None,
    prompt_tokens: options.PromptTokens = None,
    max_tokens: options.MaxTokens = None,
    num_requests: options.NumRequests = None,
    request_rate: options.RequestRate = None,
    num_runs: options.NumRuns = None,
    precision: options.Precision = None,
    seed: options.Seed = None,
    subject: options.Subject = None,
    endpoint: options.Endpoint = None,
    endpoint_model: options.EndpointModel = None,
    endpoint_route: options.EndpointRoute = None,
    endpoint_retries: options.EndpointRetries = None,
    api_key: options.ApiKey = None,
    concurrency: options.Clients = None,
    duration_s: options.DurationS = None,
    lengths: options.Lengths = None,
    slo: options.Slo = None,
    plan: Plan = False,
    out_dir: OutDir = None,
    json: options.Json = False,
) -> None:
    """Measure memory, throughput and latency of one design point; --endpoint loads any OpenAI-compatible server."""
    if plan:
        print_plan(context.params)
    else:
        _measure(context.params)


def _measure(flags: Flags) -> None:
    point = design_point(flags)
    from kvscape.files import check_writable
    from kvscape.results.load_table import write_load_table
    from kvscape.results.tables import write_record_tables

    if flags["out_dir"] is not None:
        check_writable(flags["out_dir"] / "results.csv")
    is_load = point.subject == ENDPOINT
    record = _load(point, flags["model_lib"]) if is_load else _record(point, flags)
    write = write_load_table if is_load else write_record_tables
    paths = write([record], flags["out_dir"], keep=True) if flags["out_dir"] is not None else []
    if flags["json"]:
        print_json({**record.to_json(), "files": paths} if paths else record.to_json())
    else:
        _print(record)


def _record(point: DesignPoint, flags: Flags) -> "Record":
    from kvscape.bench import measure
    from kvscape.subjects import loaded_subject

    with (
        own_turn(),
        loaded_subject(point, done_jit(flags), flags["model_lib"]) as loaded,
        bar("bench", point.workload.num_runs + 1) as (_, advance),
    ):
        return measure(loaded, point, advance=advance)


def _load(point: DesignPoint, model_lib: Path | None) -> "Record":
    """A server's own process does the work: this one only asks, so that its clock is honest."""
    from kvscape.bench.load import measure_load
    from kvscape.subjects.endpoint import load_endpoint

    requests = point.workload.num_requests
    total = None if requests is None else requests * point.workload.num_runs
    with own_turn(), closing(load_endpoint(point, model_lib=model_lib)) as loaded, bar("load", total) as (_, advance):
        return measure_load(loaded, point, advance)


def _print(record: "Record") -> None:
    """Measured beside predicted, in units; of a load, what failed and how far to trust the figures."""
    from rich.table import Table

    from kvscape.report.quantity import QUANTITIES

    table = Table("", "measured", "95 %", "predicted", "", box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:4]:
        column.justify = "right"
    for q in QUANTITIES.values():
        if q.name in record.metrics:
            spread = " to ".join(map(q.shown, record.intervals.get(q.name, ())))
            shown = q.shown(record.metrics[q.name]), spread, q.shown(record.predicted.get(q.name))
            table.add_row(q.title, *shown, q.unit)
    console().print(table)
    for line in _load_notes(record):
        sys.stdout.write(f"{line}\n")


def _load_notes(record: "Record") -> list[str]:
    facts = record.environment
    if "counted_requests" not in facts:
        return []
    whole = "; too few for a steady part: all are counted" if facts["steady_is_whole_run"] else ""
    failed = ", ".join(f"{count} x {status}" for status, count in record.errors.items())
    return [
        f"{facts['counted_requests']} of {facts['requests']} requests counted{whole}",
        f"tokens counted by {facts['tokens_counted_by']}, {facts['tokens_per_piece']:.2f} in a piece of text",
        *([f"errors: {failed}"] if failed else []),
    ]
