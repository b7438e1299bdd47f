"""``kvscape profile``: where the time of one prefill and one decode step goes."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvscape.cli import options
from kvscape.cli.chosen import build_config, engine_fields, workload
from kvscape.cli.drawing import FIGURES, check_packages
from kvscape.cli.loading import built_point, done_jit, open_llm
from kvscape.cli.output import console, print_json
from kvscape.cli.turn import own_turn
from kvscape.config import DesignPoint
from kvscape.errors import ConfigError, near_match
from kvscape.files import check_writable

if TYPE_CHECKING:
    from kvscape.results.profile import Profile

Out = Annotated[Path | None, typer.Option("--out", help="Picture to write: .png, .svg or .html.")]


def command(
    context: typer.Context,
    model_argument: options.ModelArgument = None,
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
    kv_dtype: options.KvDtype = None,
    page_size: options.PageSize = None,
    threads: options.Threads = None,
    prompt_tokens: options.PromptTokens = None,
    num_runs: options.NumRuns = None,
    seed: options.Seed = None,
    out: Out = None,
    json: options.Json = False,
) -> None:
    """Time each kernel of one prefill and one decode step, beside this machine's roofline."""
    _check_out(out)
    result = _profile(context.params)
    if out is not None:
        from kvscape.report.profile import profile_figure

        profile_figure(result).write(out)
    files = {"files": [out]} if out is not None else {}
    print_json({**result.to_json(), **files}) if json else _print(result)


def _check_out(out: Path | None) -> None:
    """A wrong suffix, a missing package and a folder that cannot be written are said before anything is measured."""
    formats = (".png", ".svg", ".html")
    if out is not None and out.suffix.lower() not in formats:
        raise ConfigError(f"unknown figure format {out.suffix!r}", "", near_match(out.suffix, formats))
    if out is not None:
        check_packages("picture", FIGURES, "leave out --out, for the table or --json")
        check_writable(out)


def _profile(flags: dict[str, Any]) -> "Profile":
    build, engine, work = build_config(flags), engine_fields(flags), workload(flags)
    from kvscape.bench.profile import check_profile, profile

    asked = DesignPoint(build, replace(DesignPoint().engine, **engine), work)
    check_profile(asked)
    built_point(flags)
    with own_turn(), open_llm({**flags, "prefix_cache": False, "jit": done_jit(flags)}) as llm:
        point = replace(asked, engine=llm.engine.config, threads=flags["threads"])
        return profile(llm, point)


def _print(result: "Profile") -> None:
    from kvscape.report.step_table import step_table

    out = console()
    for step in result.steps:
        out.print(step_table(step))
        out.print()
    memory, operations = (result.environment[name] / 1e9 for name in ("memory_bytes_per_s", "operations_per_s"))
    integer = result.environment.get("integer_operations_per_s")
    of_8_bits = f", {integer / 1e9:,.1f} of 8 bits" if integer else ""
    hint = "" if integer else ", and 8-bit products: 'kvscape doctor --calibrate' measures theirs"
    out.print(f"Roofline: {memory:,.1f} GB/s, {operations:,.1f} Gop/s in f32{of_8_bits} (caches can pass it{hint})")
