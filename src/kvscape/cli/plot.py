"""``kvscape plot``: the figures of CSV files, under the names that the workspace's four plot scripts gave them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvscape.cli import options
from kvscape.cli.output import print_json

if TYPE_CHECKING:
    from kvscape.report.figure import Figure

app = typer.Typer(
    help="Draw figures from CSV files: memory, quantization, throughput, latency, load, ppl, stream, kld.",
    no_args_is_help=True,
)

Csv = Annotated[list[Path], typer.Option("--csv", help="CSV file; more may follow it, or the flag be repeated.")]
More = Annotated[list[Path] | None, typer.Argument(help="More CSV files.", metavar="[CSV]...", show_default=False)]
Jsonl = Annotated[
    list[Path], typer.Option("--jsonl", help="What 'ppl --json' prints, or JSON lines of it; more may follow.")
]
MoreJsonl = Annotated[list[Path] | None, typer.Argument(help="More of them.", metavar="[JSONL]...", show_default=False)]
OutDir = Annotated[Path, typer.Option("--out-dir", help="Folder of the figures.")]
OneOut = Annotated[Path | None, typer.Option("--out", help="One file to write instead; its ending says the format.")]
Against = Annotated[
    str, typer.Option("--against", help="What perplexity is drawn against: quantization, bits-per-weight or kv-dtype.")
]

_AGAINST = {"quantization": "quant", "bits-per-weight": "bits", "kv-dtype": "kv"}
_PREFIX = "kv_cache_dse_results_"


@app.command()
def memory(
    csv: Csv,
    more: More = None,
    out_dir: OutDir = Path(),
    formats: options.Formats = None,
    json: options.Json = False,
) -> None:
    """KV cache and total memory against context and window, from kv_cache_dse_results_*.csv."""
    from kvscape.report.frame import read_csv
    from kvscape.report.memory import memory_figures

    paths = [*csv, *(more or ())]
    figures = [figure for p in paths for figure in memory_figures(read_csv([p]), _label(p), str(p))]
    _print(_written(figures, out_dir, formats), json)


@app.command()
def quantization(
    csv: Csv,
    more: More = None,
    out: OneOut = None,
    out_dir: OutDir = Path(),
    formats: options.Formats = None,
    json: options.Json = False,
) -> None:
    """Weights and KV cache of several quantizations, from kv_cache_dse_results_*.csv."""
    from kvscape.report.frame import read_csv
    from kvscape.report.memory import quantization_compare

    paths = [*csv, *(more or ())]
    figure = quantization_compare(read_csv(paths), _names(paths))
    _print([figure.write(out)] if out else _written([figure], out_dir, formats), json)


@app.command()
def throughput(
    csv: Csv,
    more: More = None,
    out_dir: OutDir = Path(),
    formats: options.Formats = None,
    json: options.Json = False,
) -> None:
    """Prefill and decode speed against every design parameter, from kv_cache_dse_metrics_*.csv."""
    _speed("throughput", [*csv, *(more or ())], out_dir, formats, json)


@app.command()
def latency(
    csv: Csv,
    more: More = None,
    out_dir: OutDir = Path(),
    formats: options.Formats = None,
    json: options.Json = False,
) -> None:
    """Time to first token and end to end against every design parameter, from kv_cache_dse_metrics_*.csv."""
    _speed("latency", [*csv, *(more or ())], out_dir, formats, json)


@app.command()
def load(
    csv: Csv,
    more: More = None,
    out_dir: OutDir = Path(),
    formats: options.Formats = None,
    json: options.Json = False,
) -> None:
    """Latency percentiles and throughput of servers against clients or rate, from endpoint_load.csv."""
    from kvscape.report.frame import read_csv
    from kvscape.report.load import load_figures

    paths = [*csv, *(more or ())]
    _print(_written(load_figures(read_csv(paths), _names(paths)), out_dir, formats), json)


def _speed(kind: str, paths: Sequence[Path], out_dir: Path, formats: list[str] | None, json: bool) -> None:
    from kvscape.report.frame import read_csv
    from kvscape.report.speed import speed_figures

    _print(_written(speed_figures(read_csv(paths), kind, where=_names(paths)), out_dir, formats), json)


@app.command()
def ppl(
    csv: Csv,
    more: More = None,
    out: OneOut = None,
    out_dir: OutDir = Path(),
    against: Against = "quantization",
    formats: options.Formats = None,
    json: options.Json = False,
) -> None:
    """Perplexity with its standard error, from *_ppl_results.csv; a file for each model, text and protocol."""
    from kvscape.report.frame import read_csv
    from kvscape.report.perplexity import perplexity_figures

    paths = [*csv, *(more or ())]
    stem = out.stem if out else f"{paths[0].stem.removesuffix('_results')}_vs_{_AGAINST.get(against, against)}"
    figures = perplexity_figures(read_csv(paths), stem, _names(paths), against.replace("-", "_"))
    _print(_one_or_all(figures, out, out_dir, formats), json)


@app.command()
def stream(
    jsonl: Jsonl,
    more: MoreJsonl = None,
    out: OneOut = None,
    out_dir: OutDir = Path(),
    formats: options.Formats = None,
    json: options.Json = False,
) -> None:
    """Perplexity along a long text, with sinks and without, from 'kvscape ppl --protocol stream --json'."""
    from kvscape.report.perplexity_stream import perplexity_along_streams, read_streams

    streams = read_streams([*jsonl, *(more or ())])
    figure = perplexity_along_streams(streams, out.stem if out else "ppl_along_stream")
    _print(_one_or_all([figure], out, out_dir, formats), json)


@app.command()
def kld(
    csv: Csv,
    more: More = None,
    out: OneOut = None,
    out_dir: OutDir = Path(),
    formats: options.Formats = None,
    json: options.Json = False,
) -> None:
    """How many tokens lose how much against a reference, from *_kld_results.csv."""
    from kvscape.report.divergence import kl_histogram
    from kvscape.report.frame import read_csv

    paths = [*csv, *(more or ())]
    stem = out.stem if out else paths[0].stem.removesuffix("_results")
    _print(_one_or_all([kl_histogram(read_csv(paths), stem, _names(paths))], out, out_dir, formats), json)


def _one_or_all(figures: "Sequence[Figure]", out: Path | None, folder: Path, formats: list[str] | None) -> list[Path]:
    """Files beside ``out`` with its ending, where it is given; else every format of each figure in the folder."""
    if out is None:
        return _written(figures, folder, formats)
    return [figure.write(out.with_name(figure.name + out.suffix)) for figure in figures]


def _label(path: Path) -> str:
    return path.stem.removeprefix(_PREFIX)


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))


def _written(figures: "Sequence[Figure]", folder: Path, formats: list[str] | None) -> list[Path]:
    return [path for figure in figures for path in figure.write_all(folder, formats or ["png", "svg"])]


def _print(paths: Sequence[Path], json: bool) -> None:
    if json:
        print_json({"files": paths})
    else:
        typer.echo("\n".join(map(str, paths)))
