"""``kvscape``: the commands, and what each error becomes on stderr and in the exit status."""

import os
import sys
import traceback
from importlib import import_module
from typing import Any

import typer

from kvscape.cli import plot
from kvscape.cli.drawing import PAGES
from kvscape.errors import KvscapeError, NotMetError, near_match
from kvscape.version import __version__

OK, BUG, EXPECTED, NOT_MET, INTERRUPTED = 0, 1, 2, 3, 130
COMMANDS = (
    "convert", "compile", "chat", "generate", "serve", "bench", "profile", "ppl", "study", "predict", "report",
    "recommend", "models", "doctor",
)  # fmt: skip

# The class of every usage error, whether typer brings its own click or imports it.
_UsageError: type[Exception] = typer.BadParameter.__mro__[2]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kvscape {__version__}")
        raise typer.Exit


def make_app() -> typer.Typer:
    """All commands under one name."""
    app = typer.Typer(
        help="Map what every quantization and KV-cache choice of an LLM costs on your machine.",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode="rich",
    )

    @app.callback()
    def root(
        version: bool = typer.Option(
            False, "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ) -> None: ...

    for name in COMMANDS:
        app.command(name)(import_module(f"kvscape.cli.{name}").command)
    app.add_typer(plot.app, name="plot")
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0, 2 for an expected error, 3 for a budget not met, 130 on SIGINT, 1 for a bug."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run a command; return its exit status."""
    try:
        result = typer.main.get_command(make_app())(arguments, prog_name="kvscape", standalone_mode=False)
        sys.stdout.flush()
        if result == INTERRUPTED:  # typer has caught a Ctrl-C
            return _say("interrupted", INTERRUPTED)
        return result if isinstance(result, int) else OK
    except NotMetError as error:
        return _say(str(error), NOT_MET)
    except KvscapeError as error:
        return _say(str(error), EXPECTED)
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help has been shown
            return EXPECTED
        return _say(_usage(error), EXPECTED)
    except ModuleNotFoundError as error:
        if error.name not in PAGES:
            traceback.print_exc()
            return BUG
        return _say(f"the package {error.name} is missing; install it, or draw on another host", EXPECTED)
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted", INTERRUPTED)
    except (BrokenPipeError, SystemExit):  # typer exits by itself when a pipe breaks inside a command
        return _broken_pipe()
    except Exception:
        traceback.print_exc()
        return BUG


def _say(line: str, status: int) -> int:
    print(f"error: {' '.join(line.split())}", file=sys.stderr)
    return status


def _usage(error: Any) -> str:
    """One line for a wrong command line, with what was probably meant."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context else "kvscape"
    option = getattr(error, "option_name", None)
    if option and type(error).__name__ == "NoSuchOption":
        known = [name for parameter in context.command.params for name in parameter.opts] if context else []
        return f"no option {option} in '{where}': {near_match(option, [*known, '--help'])}"
    return f"{error.format_message().rstrip('.')}; see '{where} --help'"


def _broken_pipe() -> int:
    """The reader has gone, as ``head`` does: nothing more can be written, at interpreter exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK
