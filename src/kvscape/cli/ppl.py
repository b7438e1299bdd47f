"""``kvscape ppl``: the perplexity of a text under a named protocol."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvscape.cli import options
from kvscape.cli.chosen import build_config, engine_fields, subject_name
from kvscape.cli.loading import done_jit, prepare
from kvscape.cli.output import print_facts, print_json
from kvscape.cli.progress import bar
from kvscape.cli.turn import own_turn
from kvscape.config import DesignPoint, EngineConfig

if TYPE_CHECKING:
    from kvscape.quality import Settings
    from kvscape.results import PerplexityRecord

_TEXT = "Text"
Protocol = Annotated[str, typer.Option("--protocol", help="windows or llamacpp.", rich_help_panel=_TEXT)]
Context = Annotated[int, typer.Option("--context", help="Tokens of one window.", rich_help_panel=_TEXT)]
Limit = Annotated[
    int | None, typer.Option("--limit", help="Windows at most. [default: all of the text]", rich_help_panel=_TEXT)
]
TextFile = Annotated[
    Path | None, typer.Option("--text", help="UTF-8 file to score. [default: the built-in text]", rich_help_panel=_TEXT)
]
Out = Annotated[Path | None, typer.Option("--out", help="CSV file that gets a row, e.g. wikitext2_ppl_results.csv.")]


def command(
    context: typer.Context,
    model: options.Model = None,
    quantization: options.Quantization = None,
    embedding_quantization: options.EmbeddingQuantization = None,
    activation: options.Activation = None,
    device: options.Device = None,
    model_lib: options.ModelLib = None,
    jit: options.Jit = "on",
    kv_dtype: options.KvDtype = None,
    sliding_window_size: options.SlidingWindowSize = None,
    attention_sink_size: options.AttentionSinkSize = None,
    threads: options.Threads = None,
    subject: options.Subject = None,
    protocol: Protocol = "windows",
    window: Context = 512,
    limit: Limit = None,
    text: TextFile = None,
    out: Out = None,
    json: options.Json = False,
) -> None:
    """Measure perplexity through the same engine and KV cache as generation."""
    from kvscape.quality import Settings
    from kvscape.results.tables import write_perplexity_table

    record = _measure(context.params, Settings(protocol, window, limit))
    if out is not None:
        write_perplexity_table([record], out, keep=True)
    facts = {**record.to_json(), "files": [out]} if out is not None else record.to_json()
    print_json(facts) if json else print_facts(_shown(record))


def _measure(flags: dict[str, Any], settings: "Settings") -> "PerplexityRecord":
    build, engine = build_config(flags), engine_fields(flags)
    from kvscape.quality import built_in_text, measure_perplexity, quality_point, text_from_file
    from kvscape.subjects import loaded_subject

    text = text_from_file(flags["text"]) if flags["text"] is not None else built_in_text()
    asked = DesignPoint(build, EngineConfig(**engine), subject=subject_name(flags), threads=flags["threads"])
    point = quality_point(asked, settings)
    prepare(point, flags)
    with (
        own_turn(),
        loaded_subject(point, done_jit(flags), flags["model_lib"]) as loaded,
        bar("ppl") as (set_total, advance),
    ):

        def started(windows: int) -> Any:
            set_total(windows)
            return advance

        return measure_perplexity(loaded, point, settings, text, started)


def _shown(record: "PerplexityRecord") -> dict[str, Any]:
    return {
        "perplexity": f"{record.perplexity:.4f} ± {record.standard_error:.4f}",
        "mean NLL": f"{record.mean_nll:.5f}",
        "tokens scored": f"{record.tokens_scored:,}",
        "protocol": f"{record.protocol}, windows of {record.context}",
        "text": record.text,
    }
