"""The fields of chat and text completions that say how tokens are chosen."""

import secrets
from typing import Annotated, TypeAlias

from pydantic import Field, StringConstraints

from kvscape.engine.request import SamplingParams
from kvscape.serve.protocol.strict import Ignored, Strict

MOST_CHOICES = 128
"""Of one request, over all of its prompts."""

_GREEDY_BELOW = 1e-5  # differences of logits, divided by less, overflow; what is left is the likeliest token
_LEAST_TOP_P = 1e-9  # OpenAI's 0: the likeliest token alone

_StopText: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
_Penalty: TypeAlias = Annotated[float, Field(ge=-2, le=2)]
_BiasedToken: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")]
_Bias: TypeAlias = Annotated[float, Field(ge=-100, le=100)]


class StreamOptions(Strict):
    """What a stream has besides text."""

    include_usage: bool | None = None
    include_obfuscation: Ignored = None


class SamplingFields(Strict):
    """OpenAI's fields, and as other servers have them ``top_k``, ``min_p``, ``repetition_penalty``, ``ignore_eos``."""

    model: str
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    logit_bias: Annotated[dict[_BiasedToken, _Bias], Field(max_length=1024)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    stop: _StopText | Annotated[list[_StopText], Field(max_length=16)] | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Ignored = None

    @property
    def num_choices(self) -> int:
        return self.n or 1

    @property
    def includes_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling_params(self, max_tokens: int, logprobs: int | None) -> SamplingParams:
        """As the engine wants them; where no seed is given, one is drawn."""
        return SamplingParams(
            max_tokens=max_tokens,
            temperature=_temperature(self.temperature),
            top_k=max(self.top_k or 0, 0),
            top_p=1.0 if self.top_p is None else max(self.top_p, _LEAST_TOP_P),
            min_p=self.min_p or 0.0,
            repetition_penalty=self.repetition_penalty or 1.0,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            seed=secrets.randbits(63) if self.seed is None else self.seed % 2**64,
            stop=self._stop,
            logprobs=logprobs,
            ignore_eos=bool(self.ignore_eos),
            n=self.num_choices,
            logit_bias=tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items()),
        )

    @property
    def _stop(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


def _temperature(given: float | None) -> float:
    if given is None:
        return 1.0
    return given if given >= _GREEDY_BELOW else 0.0
