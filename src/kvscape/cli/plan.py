"""What ``kvscape bench --plan`` does: print the memory of a design point, term by term, without running it."""

import sys
from typing import TYPE_CHECKING

from kvscape.cli.chosen import Flags, subject_name
from kvscape.cli.loading import built_point, library_metadata
from kvscape.cli.output import console, print_json
from kvscape.config import DesignPoint
from kvscape.errors import ConfigError

if TYPE_CHECKING:
    from kvscape.bench.plan import Plan

_TITLES = {"weights": "Weights", "kv_cache": "KV cache", "workspace": "Workspace", "runtime": "Runtime"}


def print_plan(flags: Flags) -> None:
    """Build what is missing, allocate nothing; raise ConfigError where something measured is asked for."""
    if flags["out_dir"] is not None:
        raise ConfigError("--plan with --out-dir", "a plan measures nothing", "leave one of them out")
    if subject_name(flags) != DesignPoint().subject:
        raise ConfigError("--plan with --subject", "only kvscape's memory is planned", "leave one of them out")
    plan = _plan(flags)
    print_json(plan.to_json()) if flags["json"] else _print(plan)


def _plan(flags: Flags) -> "Plan":
    point, built = built_point(flags)
    from kvscape.analysis.free_memory import available_memory_bytes
    from kvscape.bench.plan import plan_memory

    manifest = built.artifact.manifest
    workspaces = library_metadata(built.library).workspaces
    free = available_memory_bytes(point.build.device)
    return plan_memory(point, manifest.model, built.weights_bytes, workspaces, free)


def _print(plan: "Plan") -> None:
    from rich.table import Table

    from kvscape.report.quantity import QUANTITIES

    table = Table("", "", "", "", box=None, pad_edge=False, show_header=False)
    table.columns[1].justify = "right"
    mebibytes = QUANTITIES["total_bytes"].shown
    for term in (term for term in plan.terms if term.nbytes):
        table.add_row(_TITLES[term.of], mebibytes(term.nbytes), "MiB", term.formula)
    table.add_row("Total", mebibytes(plan.memory.total_bytes), "MiB", style="bold")
    per_token = QUANTITIES["kv_bytes_per_token"]
    table.add_row(per_token.title, per_token.shown(plan.memory.kv_bytes_per_token), per_token.unit)
    table.add_row("Free memory", mebibytes(plan.available_bytes), "MiB")
    console().print(table)
    sys.stdout.write(f"It does not fit: {plan.reason}\n" if plan.reason else "It fits.\n")
