"""A design point as flags of the command line, and the commands that use them."""

import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from kvscape.config import KV_DTYPES, DesignPoint
from kvscape.quality import built_in_text, quality_point
from kvscape.quality.datasets import DATASETS
from kvscape.results import PerplexityRecord
from kvscape.study.space import Quality

_QUALITY = ("kv_dtype", "sliding_window_size", "attention_sink_size")


def kvscape_command(arguments: Sequence[str]) -> list[str]:
    """This very installation's command line."""
    return [sys.executable, "-m", "kvscape", *arguments]


def flags(parameters: Iterable[tuple[str, Any]]) -> list[str]:
    """``--name value`` for each parameter that is set, ``--name`` or ``--no-name`` for one that is on or off."""
    return [part for name, value in parameters if value is not None for part in _flag(name.replace("_", "-"), value)]


def _flag(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, bool):
        return (f"--{name}" if value else f"--no-{name}",)
    return (f"--{name}", str(value))


def compile_arguments(point: DesignPoint) -> list[str]:
    return ["compile", *flags({**asdict(point.build), **_pair(point), "subject": point.subject}.items())]


def _pair(point: DesignPoint) -> dict[str, str]:
    """The KV precision where it wants a library of its own."""
    name = point.engine.kv_dtype
    return {} if name in KV_DTYPES else {"kv_dtype": name}


def bench_arguments(point: DesignPoint) -> list[str]:
    return ["bench", *flags(point.flat().items())]


def ppl_arguments(point: DesignPoint, quality: Quality) -> list[str]:
    engine = asdict(quality_point(point, quality.settings).engine)
    chosen = {
        **asdict(point.build),
        **{name: engine[name] for name in _QUALITY},
        "subject": point.subject,
        "endpoint": point.server.endpoint,
        "endpoint_model": point.server.endpoint_model,
        "threads": point.threads,
        **asdict(quality.settings),
        "stride": quality.settings.stride or None,
        **asdict(quality.choice),
        "reference_quantization": quality.reference_of(point),
    }
    return ["ppl", *flags(chosen.items())]


def shipping_commands(point: DesignPoint) -> list[str]:
    """Commands for a person to type: build the point, talk to it, measure it again; a peer's can only be measured."""
    if point.subject != DesignPoint().subject:
        return [_typed("bench", point.flat())]
    build = asdict(point.build)
    run = {**build, **asdict(point.engine), "threads": point.threads}
    return [_typed("compile", {**build, **_pair(point)}), _typed("chat", run), _typed("bench", point.flat())]


def scoring_command(point: DesignPoint, like: PerplexityRecord) -> str:
    """The command that measures a point's perplexity as another one was measured."""
    engine = asdict(point.engine)
    chosen = {**asdict(point.build), **{name: engine[name] for name in _QUALITY}, "subject": point.subject}
    how = {"protocol": like.protocol, "context": like.context, "limit": like.limit, "stride": like.stride or None}
    return f"{_typed('ppl', chosen)} {shlex.join(flags([*how.items(), *_text(like.text)]))}"


def _text(name: str) -> list[tuple[str, str]]:
    """How a text of this name is asked for; of a file the name is all that is known."""
    if name == built_in_text().name:
        return []
    return [("dataset" if name in DATASETS else "text", name)]


def _typed(verb: str, parameters: dict[str, Any]) -> str:
    defaults = DesignPoint().flat()
    always = ("model", "quantization")
    chosen = [(name, value) for name, value in parameters.items() if name in always or value != defaults[name]]
    return shlex.join(["kvscape", verb, *flags(chosen)])
