"""What is asked of the engine, and what it answers."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

from kvscape.engine.devices.device import FloatArray
from kvscape.engine.guide import Guide
from kvscape.engine.metrics import RequestMetrics
from kvscape.engine.text import Detokenizer
from kvscape.engine.token_logprob import TokenLogprob, TopLogprobs
from kvscape.errors import ConfigError, KvscapeError

FinishReason: TypeAlias = Literal["stop", "length", "cancelled", "error"]

_SEEDS = 2**64

_RANGES: tuple[tuple[str, float, float], ...] = (
    ("max_tokens", 0, math.inf),
    ("temperature", 0.0, math.inf),
    ("top_k", 0, math.inf),
    ("top_p", 0.0, 1.0),
    ("min_p", 0.0, 1.0),
    ("repetition_penalty", 0.0, math.inf),
    ("presence_penalty", -2.0, 2.0),
    ("frequency_penalty", -2.0, 2.0),
    ("seed", 0, _SEEDS - 1),
    ("n", 1, math.inf),
)
_MUST_BE_POSITIVE = ("top_p", "repetition_penalty")


@dataclass(frozen=True)
class SamplingParams:
    """How to choose tokens and when to stop; the defaults are greedy.

    ``temperature`` 0 means greedy, ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 mean off. ``logprobs`` N gives the chosen
    token's log-probability and those of the N likeliest, under the model's own distribution (before penalties and
    temperature). ``max_tokens`` 0 computes the prompt only. The repetition penalty counts prompt and answer (CTRL,
    Keskar et al. 2019, arXiv 1909.05858), the presence and frequency penalties the answer alone, as OpenAI's do.
    ``logit_bias`` has pairs of a token and what is added to its logit, -100 to 100, as OpenAI's.
    ``n`` answers come from one pass over the prompt: choice i is what seed + i (modulo 2**64) alone would give.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    ignore_eos: bool = False
    n: int = 1
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        for name, least, most in _RANGES:
            _check_range(name, getattr(self, name), least, most)
        if not isinstance(self.stop, tuple) or "" in self.stop:
            raise ConfigError(f"stop = {self.stop!r}", "it must be a tuple of non-empty strings", "write ('END',)")
        for _, bias in self.logit_bias:
            _check_range("logit_bias", bias, -100.0, 100.0)
        if self.logprobs is not None:
            _check_range("logprobs", self.logprobs, 0, math.inf)

    @property
    def penalized(self) -> bool:
        """Whether any penalty changes the logits."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1.0, 0.0, 0.0)

    @cached_property
    def is_plain(self) -> bool:
        """Whether the likeliest token is all that is wanted of the logits."""
        return self.temperature == 0 and not self.penalized and not self.logit_bias and self.logprobs is None


def _check_range(name: str, value: float, least: float, most: float) -> None:
    inside = value > least if name in _MUST_BE_POSITIVE else value >= least
    if inside and value <= most and value != math.inf:
        return
    lower = f"above {least:g}" if name in _MUST_BE_POSITIVE else f"at least {least:g}"
    upper = "" if most == math.inf else f" and at most {most:g}"
    raise ConfigError(f"{name} = {value}", f"it must be {lower}{upper}", "correct the value")


@dataclass(frozen=True)
class Request:
    """One prompt to continue, to score, or both.

    ``guide`` makes a fresh guide for each choice; the answer ends ("stop") when it is complete.
    ``prompt_logprobs`` with ``params.logprobs`` N gives the N likeliest tokens in the place of each prompt token, too.
    ``prompt_logits`` goes with ``prompt_logprobs``: each step also hands out the logits that it scored from.
    ``detokenizer`` makes the one for each answer's text, in place of the engine's own.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    params: SamplingParams = field(default_factory=SamplingParams)
    prompt_logprobs: bool = False
    prompt_logits: bool = False
    detokenizer: Callable[[], Detokenizer] | None = None
    guide: Callable[[], Guide] | None = None

    @property
    def generates(self) -> bool:
        return self.params.max_tokens > 0

    def choice(self, index: int) -> "Request":
        """The request that gives choice ``index`` alone; log-probabilities of the prompt come with choice 0."""
        params = replace(self.params, n=1, seed=(self.params.seed + index) % _SEEDS)
        first = index == 0
        scores, logits = self.prompt_logprobs and first, self.prompt_logits and first
        return replace(self, params=params, prompt_logprobs=scores, prompt_logits=logits)


class Output(NamedTuple):
    """What one step added to choice ``index`` of a request; its last one has a ``finish_reason``.

    ``text`` is empty without a detokenizer, and lags where a character or a stop string may not be complete yet. The
    tokens of a stop string and the end-of-sequence token are in ``token_ids`` but never in ``text``.
    ``prompt_logprobs`` (f32 [n - 1], token i + 1 given tokens 0 to i) and ``prompt_top_logprobs`` (in the same places)
    come with the last output; ``metrics`` go on with the answer.
    ``prompt_logits`` come in outputs of their own, f32 [rows, vocab_size], n - 1 rows in all, in order; they may change
    in the next step. With ``finish_reason`` "error", which ends all choices of a request, ``error`` says what happened.
    """

    request_id: str
    token_ids: tuple[int, ...] = ()
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    prompt_logprobs: FloatArray | None = None
    prompt_logits: FloatArray | None = None
    metrics: RequestMetrics | None = None
    index: int = 0  # type: ignore[assignment]  # a tuple's method that nobody asks of this one
    error: KvscapeError | None = None
    prompt_top_logprobs: tuple[TopLogprobs, ...] = ()
