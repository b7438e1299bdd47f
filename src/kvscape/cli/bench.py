"""``kvscape bench``: one design point, measured in this process."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvscape.cli import options
from kvscape.cli.chosen import Flags
from kvscape.cli.loading import design_point, done_jit
from kvscape.cli.output import console, print_json
from kvscape.cli.plan import print_plan
from kvscape.cli.progress import bar
from kvscape.cli.turn import own_turn

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
    plan: Plan = False,
    out_dir: OutDir = None,
    json: options.Json = False,
) -> None:
    """Measure memory, throughput and latency of one design point."""
    if plan:
        print_plan(context.params)
    else:
        _measure(context.params)


def _measure(flags: Flags) -> None:
    point = design_point(flags)
    from kvscape.bench import measure
    from kvscape.results.tables import write_record_tables
    from kvscape.subjects import loaded_subject

    with (
        own_turn(),
        loaded_subject(point, done_jit(flags), flags["model_lib"]) as loaded,
        bar("bench", point.workload.num_runs + 1) as (_, advance),
    ):
        record = measure(loaded, point, advance=advance)
    out_dir = flags["out_dir"]
    paths = write_record_tables([record], out_dir, keep=True) if out_dir is not None else []
    if flags["json"]:
        print_json({**record.to_json(), "files": paths} if paths else record.to_json())
    else:
        _print(record)


def _print(record: "Record") -> None:
    """Measured beside predicted, in units."""
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
