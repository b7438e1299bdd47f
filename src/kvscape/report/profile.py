"""A profile as a table and as a figure: measured time of each kernel beside the roofline's."""

import altair as alt
from rich.table import Table

from kvscape.report.figure import Figure, figure
from kvscape.results.profile import Profile, StepProfile

_MS, _COLOURS = 1e3, {"measured": "#4477aa", "roofline": "#bbbbbb"}
_ROW_HEIGHT = 26
HOST = "host"


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


def profile_figure(profile: Profile) -> Figure:
    """A panel for each step: two bars for each kernel, what it takes and what the machine's limits allow."""
    panels = [_panel(step) for step in profile.steps]
    parameters = profile.parameters
    subtitle = f"{parameters['quantization']}, KV {parameters['kv_dtype']}, {profile.environment['threads']} threads"
    return figure("profile", "Where the time of a step goes", subtitle, alt.hconcat(*panels, spacing=40))


def _panel(step: StepProfile) -> alt.Chart:
    names = [kernel.name for kernel in step.kernels]
    bars = [
        {"kernel": name, "kind": kind, "ms": seconds * _MS}
        for name, measured, least in [
            *((k.name, k.time_s, k.roofline_s) for k in step.kernels),
            (HOST, step.host_s, 0.0),
        ]
        for kind, seconds in (("measured", measured), ("roofline", least))
    ]
    scale = alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values()))
    chart: alt.Chart = (
        alt.Chart(alt.InlineData(values=bars), title=f"{step.step}: {step.wall_s * _MS:.2f} ms")
        .mark_bar()
        .encode(
            x=alt.X("ms:Q", title="Milliseconds of one step"),
            y=alt.Y("kernel:N", title=None, sort=[*names, HOST], axis=alt.Axis(labelLimit=320)),
            yOffset=alt.YOffset("kind:N", sort=list(_COLOURS)),
            color=alt.Color("kind:N", title=None, scale=scale),
            tooltip=["kernel:N", "kind:N", alt.Tooltip("ms:Q", format=".3f")],
        )
        .properties(width=300, height=_ROW_HEIGHT * (len(names) + 1))
    )
    return chart
