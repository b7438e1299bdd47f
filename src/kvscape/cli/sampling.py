"""The flags that say how tokens are chosen."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kvscape.engine.request import SamplingParams


def _flag(name: str, help_text: str) -> Any:
    return typer.Option(f"--{name}", help=help_text, rich_help_panel="Sampling")


Temperature = Annotated[float, _flag("temperature", "0 always takes the likeliest token.")]
TopK = Annotated[int, _flag("top-k", "Choose among the K likeliest; 0 is off.")]
TopP = Annotated[float, _flag("top-p", "Choose among the likeliest that hold this probability.")]
MinP = Annotated[float, _flag("min-p", "Least probability, relative to the likeliest; 0 is off.")]
RepetitionPenalty = Annotated[float, _flag("repetition-penalty", "Above 1 avoids what was said.")]
PresencePenalty = Annotated[float, _flag("presence-penalty", "As OpenAI's.")]
FrequencyPenalty = Annotated[float, _flag("frequency-penalty", "As OpenAI's.")]
Stop = Annotated[list[str] | None, _flag("stop", "Text that ends the answer; may be repeated.")]
Logprobs = Annotated[int | None, _flag("logprobs", "Log-probabilities of the N likeliest tokens, with --json.")]
N = Annotated[int, _flag("n", "Answers; with --seed S the first has S, the next S + 1.")]
IgnoreEos = Annotated[bool, _flag("ignore-eos", "Go on to --max-tokens.")]


def sampling_params(flags: Mapping[str, Any]) -> "SamplingParams":
    """The parameters that flags give; raise ConfigError for a value out of range."""
    from dataclasses import fields

    from kvscape.engine.request import SamplingParams

    given = {f.name: flags[f.name] for f in fields(SamplingParams) if flags.get(f.name) is not None}
    return SamplingParams(**{**given, "stop": tuple(given.get("stop", ()))})
