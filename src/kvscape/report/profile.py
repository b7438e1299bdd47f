"""A profile as a figure: measured time of each kernel beside the roofline's."""

import altair as alt

from kvscape.config import is_gpu
from kvscape.report.figure import Figure, figure
from kvscape.report.step_table import HOST
from kvscape.results.profile import Profile, StepProfile

_MS, _COLOURS = 1e3, {"measured": "#4477aa", "roofline": "#bbbbbb"}
_ROW_HEIGHT = 26


def profile_figure(profile: Profile) -> Figure:
    """A panel for each step: two bars for each kernel, what it takes and what the machine's limits allow."""
    panels = [_panel(step) for step in profile.steps]
    parameters = profile.parameters
    subtitle = f"{parameters['quantization']}, KV {parameters['kv_dtype']}, {_place(profile)}"
    return figure("profile", "Where the time of a step goes", subtitle, alt.hconcat(*panels, spacing=40))


def _place(profile: Profile) -> str:
    """What computed: threads are the processor's."""
    device, environment = profile.parameters["device"], profile.environment
    if is_gpu(device):
        return f"{device}, {environment['gpu']}"
    threads = environment["threads"]
    return f"{threads} thread{'s' if threads > 1 else ''}"


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
