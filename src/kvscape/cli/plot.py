"""``kvscape plot``: the figures of CSV files, as the workspace's four plot scripts drew them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvscape.cli import options
from kvscape.cli.output import print_json

if TYPE_CHECKING:
    from kvscape.report.figure import Figure

app = typer.Typer(help="Draw figures from CSV files: memory, quantization, throughput, ppl.", no_args_is_help=True)

Csv = Annotated[list[Path], typer.Option("--csv", help="CSV file; more may follow it, or the flag be repeated.")]
More = Annotated[list[Path] | None, typer.Argument(help="More CSV files.", metavar="[CSV]...", show_default=False)]
OutDir = Annotated[Path, typer.Option("--out-dir", help="Folder of the figures.")]
Out = Annotated[Path, typer.Option("--out", help="File to write; its ending says png, svg or html.")]

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
def quantization(csv: Csv, out: Out, more: More = None, json: options.Json = False) -> None:
    """Weights and KV cache of several quantizations, from kv_cache_dse_results_*.csv."""
    from kvscape.report.frame import read_csv
    from kvscape.report.memory import quantization_compare

    paths = [*csv, *(more or ())]
    _print([quantization_compare(read_csv(paths), _names(paths)).write(out)], json)


@app.command()
def throughput(
    csv: Csv,
    more: More = None,
    out_dir: OutDir = Path(),
    formats: options.Formats = None,
    json: options.Json = False,
) -> None:
    """Throughput and latency against quantization and every design parameter, from kv_cache_dse_metrics_*.csv."""
    from kvscape.report.frame import read_csv
    from kvscape.report.speed import speed_figures

    paths = [*csv, *(more or ())]
    _print(_written(speed_figures(read_csv(paths), where=_names(paths)), out_dir, formats), json)


@app.command()
def ppl(csv: Csv, out: Out, more: More = None, json: options.Json = False) -> None:
    """Perplexity of several quantizations with its standard error, from *_ppl_results.csv."""
    from kvscape.report.frame import read_csv
    from kvscape.report.perplexity import perplexity_vs_quantization

    paths = [*csv, *(more or ())]
    _print([perplexity_vs_quantization(read_csv(paths), out.stem, _names(paths)).write(out)], json)


def _label(path: Path) -> str:
    return path.stem.removeprefix(_PREFIX)


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))


def _written(figures: "Sequence[Figure]", folder: Path, formats: list[str] | None) -> list[Path]:
    return [path for figure in figures for path in figure.write_all(folder, formats or ["png"])]


def _print(paths: Sequence[Path], json: bool) -> None:
    if json:
        print_json({"files": paths})
    else:
        typer.echo("\n".join(map(str, paths)))
