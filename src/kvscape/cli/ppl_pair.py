"""``kvscape ppl --hf-model``: a Hugging Face model, and beside it the quantized one that it stands for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvscape.cli.chosen import build_config
from kvscape.errors import ConfigError

if TYPE_CHECKING:
    from kvscape.quality import Settings, TextChoice
    from kvscape.results import PerplexityRecord

Measure = Callable[[dict[str, Any], "Settings"], "PerplexityRecord"]

_PANEL = "Hugging Face's model beside the quantized one"


def _option(flag: str, help_text: str) -> Any:
    return typer.Option(flag, help=help_text, rich_help_panel=_PANEL)


HfModel = Annotated[
    str | None, _option("--hf-model", "ORG/NAME or a folder: scored by transformers in f16, on --device.")
]
MlcModel = Annotated[
    str | None, _option("--mlc-model", "Scored by kvscape on the same text; both rows name each other.")
]
FakeQ3bit = Annotated[bool, _option("--fake-q3bit", "Round --hf-model's weights as q3f16_1 does.")]
LoadIn4bit = Annotated[bool, _option("--load-in-4bit", "Load --hf-model in bitsandbytes' NF4.")]
LoadIn8bit = Annotated[bool, _option("--load-in-8bit", "Load --hf-model in bitsandbytes' LLM.int8.")]

_ROUNDINGS = {"fake_q3bit": "fake_q3", "load_in_4bit": "4bit", "load_in_8bit": "8bit"}
# Flags that name what --hf-model says already, and those that only kvscape's engine has.
_NAMED = ("model", "quantization", "subject")
_REFERENCE = ("save_reference", "reference", "reference_quantization")
_ENGINES = ("activation", "model_lib", "kv_dtype", "sliding_window_size", "attention_sink_size")


@dataclass(frozen=True)
class Pair:
    """What is measured, as flags of ``kvscape ppl``: transformers' run and, unless it stands alone, kvscape's."""

    hf: dict[str, Any]
    mlc: dict[str, Any] | None


def find_pair(flags: dict[str, Any]) -> Pair | None:
    """The pair that the flags ask for, None without ``--hf-model``; raise a KvscapeError for a contradiction."""
    roundings = [name for name in _ROUNDINGS if flags[name]]
    if flags["hf_model"] is None:
        for name in (*roundings, *(["mlc_model"] if flags["mlc_model"] else [])):
            raise ConfigError(f"{_flag(name)} without --hf-model", "it goes with a Hugging Face model", "name one")
        return None
    _check(flags, roundings)
    quantization = _ROUNDINGS[roundings[0]] if roundings else "q0f16"
    own = {**flags, "model": _hub_name(flags["hf_model"]), "quantization": quantization, "subject": "transformers"}
    hf = {**own, **dict.fromkeys(_ENGINES)}
    build_config(hf)
    return Pair(hf, _mlc(flags))


def _check(flags: dict[str, Any], roundings: list[str]) -> None:
    if len(roundings) > 1:
        raise ConfigError(f"{_flag(roundings[0])} and {_flag(roundings[1])}", "weights are rounded once", "give one")
    for name in _NAMED:
        if flags[name] is not None:
            why, do = f"--hf-model says the {name} already", "leave it out, or use --subject transformers"
            raise ConfigError(f"{_flag(name)} beside --hf-model", why, do)
    for name in _REFERENCE:
        if flags[name] is not None:
            why = "two models are scored, and distributions belong to one"
            raise ConfigError(f"{_flag(name)} beside --hf-model", why, "use --subject transformers --model for it")
    for name in _ENGINES:
        if flags[name] is not None and flags["mlc_model"] is None:
            raise ConfigError(
                f"{_flag(name)} beside --hf-model", "transformers has no such knob", "give --mlc-model too"
            )


def _mlc(flags: dict[str, Any]) -> dict[str, Any] | None:
    """kvscape's own run: the weights as they are, on the CPU, wherever the other one runs."""
    if flags["mlc_model"] is None:
        return None
    own = {**flags, "model": _hub_name(flags["mlc_model"]), "device": None, "embedding_quantization": None}
    build_config(own)
    if flags["device"] not in (None, "cpu", "cpu:0"):
        typer.echo(f"{flags['mlc_model']} is scored on the CPU, where kvscape runs", err=True)
    return own


def _hub_name(name: str) -> str:
    """A bare ``org/name`` is Hugging Face's, as transformers has it, unless there is such a folder."""
    return name if "://" in name or Path(name).expanduser().exists() else f"HF://{name}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def pair_records(pair: Pair, settings: "Settings", measure: Measure) -> "Iterator[PerplexityRecord]":
    """Score both on the same text in windows of the same length; each record as soon as it is there."""
    first = measure(pair.hf, settings)
    if pair.mlc is None:
        yield first
        return
    yield replace(first, paired_with=pair.mlc["model"])
    same = replace(settings, context=first.context, stride=first.stride)
    second = measure({**pair.mlc, "window": first.context}, same)
    yield replace(second, paired_with=pair.hf["model"])


def default_out(choice: "TextChoice") -> Path:
    """The workspace's file of results, e.g. ``wikitext2_ppl_results.csv``."""
    text = choice.dataset or (choice.text.stem if choice.text is not None else "builtin")
    return Path(f"{text}_ppl_results.csv")
