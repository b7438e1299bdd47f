"""``kvscape ppl``: the perplexity of a text under a named protocol."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvscape.cli import divergence, options
from kvscape.cli.chosen import ENDPOINT, build_config, engine_fields, subject_name
from kvscape.cli.loading import done_jit, prepare
from kvscape.cli.output import print_facts, print_json
from kvscape.cli.ppl_endpoint import measure_on_endpoint
from kvscape.cli.ppl_pair import (
    FakeQ3bit,
    HfModel,
    LoadIn4bit,
    LoadIn8bit,
    MlcModel,
    Pair,
    default_out,
    find_pair,
    pair_records,
)
from kvscape.cli.progress import perplexity_bar
from kvscape.cli.turn import own_turn
from kvscape.config import DesignPoint, EngineConfig

if TYPE_CHECKING:
    from kvscape.quality import Settings, Text, TextChoice
    from kvscape.results import PerplexityRecord

_TEXT = "Text"


def _text_option(flag: str, help_text: str) -> Any:
    return typer.Option(flag, help=help_text, rich_help_panel=_TEXT)


Protocol = Annotated[str, _text_option("--protocol", "windows, stride, llamacpp, stream or word (docs/quality.md).")]
Context = Annotated[
    int | None,
    _text_option("--context", "Tokens of one window. [default: the protocol's: 2048, or the model's; llamacpp 512]"),
]
Stride = Annotated[
    int | None, _text_option("--stride", "Tokens between windows, or a stream's marks. [default: 512; stream 1000]")
]
Limit = Annotated[int | None, _text_option("--limit", "Windows, or documents, at most. [default: all of the text]")]
TextFile = Annotated[
    Path | None, _text_option("--text", "UTF-8 file, .jsonl or .parquet to score. [default: the built-in text]")
]
TextField = Annotated[str | None, _text_option("--text-field", "Field of a .jsonl or .parquet file. [default: text]")]
Dataset = Annotated[
    str | None, _text_option("--dataset", "A text of the Hugging Face hub: wikitext2, wikitext103, ptb, c4-sample.")
]
Split = Annotated[str | None, _text_option("--split", "test or validation. [default: test; c4-sample validation]")]
Restart = Annotated[bool, _text_option("--restart", "Score again what an interrupted run has scored.")]
Out = Annotated[Path | None, typer.Option("--out", help="CSV file that gets a row, e.g. wikitext2_ppl_results.csv.")]


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
    kv_dtype: options.KvDtype = None,
    sliding_window_size: options.SlidingWindowSize = None,
    attention_sink_size: options.AttentionSinkSize = None,
    threads: options.Threads = None,
    subject: options.Subject = None,
    endpoint: options.Endpoint = None,
    endpoint_model: options.EndpointModel = None,
    api_key: options.ApiKey = None,
    protocol: Protocol = "windows",
    window: Context = None,
    stride: Stride = None,
    limit: Limit = None,
    text: TextFile = None,
    text_field: TextField = None,
    dataset: Dataset = None,
    split: Split = None,
    restart: Restart = False,
    save_reference: divergence.SaveReference = None,
    reference: divergence.Reference = None,
    reference_quantization: divergence.ReferenceQuantization = None,
    reference_top_k: divergence.ReferenceTopK = 256,
    reference_rest: divergence.ReferenceRest = "8bit",
    reference_limit: divergence.ReferenceLimit = "2GiB",
    hf_model: HfModel = None,
    mlc_model: MlcModel = None,
    fake_q3bit: FakeQ3bit = False,
    load_in_4bit: LoadIn4bit = False,
    load_in_8bit: LoadIn8bit = False,
    out: Out = None,
    json: options.Json = False,
) -> None:
    """Measure perplexity through the same engine and KV cache as generation, or on a server that gives its scores."""
    from kvscape.files import check_writable
    from kvscape.quality import Settings, TextChoice
    from kvscape.results.tables import write_perplexity_table

    divergence.check(context.params)
    settings = Settings(protocol, window or 0, limit, stride or 0)
    choice = TextChoice(text, text_field, dataset, split)
    if pair := find_pair(context.params):
        table = out or default_out(choice)
        check_writable(table)
        _print_pair(pair, settings, choice, table, json)
        return
    if out is not None:
        check_writable(out)
    record = _measure(context.params, settings, choice)
    files = [] if out is None else [out, *divergence.write_table(record, out)]
    if out is not None:
        write_perplexity_table([record], out, keep=True)
    facts = {**record.to_json(), "files": files} if files else record.to_json()
    print_json(facts) if json else print_facts(_shown(record))


def _measure(flags: dict[str, Any], settings: "Settings", choice: "TextChoice") -> "PerplexityRecord":
    if subject_name(flags) == ENDPOINT:
        return measure_on_endpoint(flags, settings, choice)
    build, engine = build_config(flags), EngineConfig(**engine_fields(flags))
    from kvscape.hub import DownloadBar
    from kvscape.quality import quality_point
    from kvscape.subjects import find_local

    asked = DesignPoint(build, engine, subject=subject_name(flags), threads=flags["threads"])
    subject = find_local(asked.subject)
    subject.check(asked)
    with DownloadBar() as progress:
        text = choice.read(settings.protocol, progress)
        model = subject.shape(build, progress)
    # With a window the positions are those inside the cache: a sequence may be longer than the model's context.
    if flags["window"] is None and engine.sliding_window_size == -1:
        settings = settings.within(model.longest_context)
    point = quality_point(asked, settings)
    prepare(point, flags)
    return _score(flags, point, settings, text)


def _print_pair(pair: Pair, settings: "Settings", choice: "TextChoice", out: Path, json: bool) -> None:
    """Each row lands as soon as it is measured."""
    from kvscape.results.tables import write_perplexity_table

    records = []
    for record in pair_records(pair, settings, partial(_measure, choice=choice)):
        write_perplexity_table([record], out, keep=True)
        records.append(record)
        if not json:
            own = record.parameters
            print_facts({"model": f"{own['model']} ({own['subject']}, {own['quantization']})", **_shown(record)})
    if json:
        print_json({"records": [record.to_json() for record in records], "files": [out]})
    else:
        print_facts({"file": out})


def _score(flags: dict[str, Any], point: DesignPoint, settings: "Settings", text: "Text") -> "PerplexityRecord":
    from kvscape.quality import measure_perplexity, open_journal
    from kvscape.subjects import loaded_subject

    if divergence.wanted(flags):
        return divergence.measure(flags, point, settings, text)
    with (
        own_turn(),
        loaded_subject(point, done_jit(flags), flags["model_lib"]) as loaded,
        open_journal(loaded, point, settings, text, flags["restart"]) as journal,
        perplexity_bar() as told,
    ):
        return measure_perplexity(loaded, point, settings, text, told, journal)


def _shown(record: "PerplexityRecord") -> dict[str, Any]:
    stride = f", stride {record.stride}" if record.stride else ""
    return {
        "perplexity": f"{record.perplexity:.4f} ± {record.standard_error:.4f}, of a {record.unit}",
        "mean NLL": f"{record.mean_nll:.5f}",
        "bits per byte": f"{record.bits_per_byte:.5f}",
        "tokens scored": f"{record.tokens_scored:,} of {record.text_tokens:,}",
        "protocol": f"{record.protocol}, windows of {record.context}{stride}",
        "text": record.text,
        **_calibration(record),
        **divergence.shown(record.divergence),
    }


def _calibration(record: "PerplexityRecord") -> dict[str, str]:
    """A mark on what was scored on the text that the weights were calibrated on."""
    if record.calibration is None:
        return {}
    same = ", this very text" if record.calibration["text_sha256"] == record.text_sha256 else ""
    share = f"{record.calibration_overlap:.2%} of the tokens are among those it was calibrated on"
    return {"calibrated on": f"{record.calibration['text']}{same}: {share}"}
