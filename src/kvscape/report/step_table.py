"""A step of a profile as a table; it needs none of the packages that draw."""

from rich.table import Table

from kvscape.results.profile import StepProfile

HOST = "host"
_MS = 1e3


def step_table(step: StepProfile) -> Table:
    """Kernels by time, the host's share, and the whole step."""
    title = f"{step.step} step, {step.tokens:,} token{'s' if step.tokens > 1 else ''}"
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    table.add_column("kernel", no_wrap=True)
    for heading in ("calls", "ms", "%", "us/call", "MB", "Mop", "GB/s", "Gop/s", "% of roofline"):
        table.add_column(heading, justify="right")
    for row in _rows(step):
        table.add_row(*row)
    table.add_row(HOST, "", f"{step.host_s * _MS:.3f}", f"{step.host_s / step.wall_s:.1%}")
    table.add_row("step", "", f"{step.wall_s * _MS:.3f}", "100%", style="bold")
    return table


def _rows(step: StepProfile) -> list[list[str]]:
    return [
        [
            kernel.name,
            f"{kernel.calls:,}",
            f"{kernel.time_s * _MS:.3f}",
            f"{kernel.time_s / step.wall_s:.1%}",
            f"{kernel.time_s / kernel.calls * 1e6:,.1f}",
            f"{kernel.moved_bytes / 1e6:,.2f}",
            f"{kernel.operations / 1e6:,.1f}",
            _rate(kernel.moved_bytes, kernel.time_s),
            _rate(kernel.operations, kernel.time_s),
            f"{kernel.of_roofline:.0%}",
        ]
        for kernel in step.kernels
    ]


def _rate(amount: float, time_s: float) -> str:
    return f"{amount / time_s / 1e9:,.1f}" if time_s else "-"
