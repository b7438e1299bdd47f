"""Requests of one batch that want all kinds of things of their logits, and what is told of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvscape.engine import Engine, Output, Request, SamplingParams
from kvscape.engine.guide import BoolArray

FIRST = 3  # tokens before it are not drawn by these guides
_LONG: dict[str, Any] = {"max_tokens": 6, "ignore_eos": True}
_PENALTIES: dict[str, Any] = {"repetition_penalty": 1.3, "frequency_penalty": 0.4, "presence_penalty": -0.2}
_WARM: dict[str, Any] = {"temperature": 0.9, "top_k": 40, "top_p": 0.95, "min_p": 0.01, "seed": 5}
PARAMS = {
    "plain": SamplingParams(**_LONG),
    "warm": SamplingParams(**_LONG, **_WARM),
    "penalties": SamplingParams(**_LONG, **_PENALTIES),
    "warm penalties": SamplingParams(**_LONG, **_WARM, **_PENALTIES),
    "bias": SamplingParams(**_LONG, logit_bias=((7, 4.0), (9, -100.0), (7, 1.0)), presence_penalty=0.5),
    "logprobs": SamplingParams(**_LONG, logprobs=3),
    "choices": SamplingParams(**_LONG, **_WARM, n=2, frequency_penalty=0.7, logprobs=1),
    "guided": SamplingParams(max_tokens=6),
    "guided, all": SamplingParams(max_tokens=6, **_WARM, **_PENALTIES, logit_bias=((8, 3.0),), logprobs=0),
    "stuck": SamplingParams(max_tokens=6),
}


@dataclass
class Thirds:
    """Allows every third token, other ones after each; none after ``most``."""

    vocab_size: int
    most: int = 99
    accepted: list[int] = field(default_factory=list)
    may_end: bool = False
    complete: bool = False

    def allowed(self) -> BoolArray:
        ids = np.arange(self.vocab_size)
        allowed: BoolArray = (ids >= FIRST) & (ids % 3 == len(self.accepted) % 3) & (len(self.accepted) < self.most)
        return allowed

    def accept(self, token_id: int) -> None:
        assert self.allowed()[token_id]
        self.accepted.append(token_id)


def mixed_requests(vocab_size: int) -> list[Request]:
    """One of each kind, the prompts of other lengths; "stuck" fails at its third token."""
    guides = {
        "guided": lambda: Thirds(vocab_size),
        "guided, all": lambda: Thirds(vocab_size),
        "stuck": lambda: Thirds(vocab_size, 2),
    }
    rng = np.random.default_rng(1)
    return [
        Request(name, tuple(rng.integers(FIRST, vocab_size, 4 + i).tolist()), params, True, guide=guides.get(name))
        for i, (name, params) in enumerate(PARAMS.items())
    ]


@dataclass
class Told:
    """What one choice's reader sees."""

    tokens: list[int] = field(default_factory=list)
    likeliest: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    reason: str | None = None

    def add(self, output: Output) -> None:
        self.tokens += output.token_ids
        self.reason = output.finish_reason
        for one in output.logprobs:
            self.likeliest += [token for token, _ in one.top]
            self.logprobs += [one.logprob, *(value for _, value in one.top)]
        for top in output.prompt_top_logprobs:
            self.likeliest += [token for token, _ in top]
            self.logprobs += [value for _, value in top]


def told(target: Engine, requests: Sequence[Request]) -> dict[tuple[str, int], Told]:
    """Serve the requests at once."""
    found: dict[tuple[str, int], Told] = {}
    for request in requests:
        target.add(request)
    while target.has_work:
        for output in target.step():
            found.setdefault((output.request_id, output.index), Told()).add(output)
    return found


def assert_same(found: dict[tuple[str, int], Told], wanted: dict[tuple[str, int], Told]) -> None:
    """The same tokens everywhere, log-probabilities to five digits behind the point."""
    assert found.keys() == wanted.keys()
    for key, one in wanted.items():
        got = found[key]
        assert (got.tokens, got.likeliest, got.reason) == (one.tokens, one.likeliest, one.reason), key
        np.testing.assert_allclose(got.logprobs, one.logprobs, atol=1e-5)


def assert_worth_comparing(wanted: dict[tuple[str, int], Told]) -> None:
    """All ends are there, nobody answers what another one does."""
    assert len({tuple(one.tokens) for one in wanted.values()}) == len(wanted) == len(PARAMS) + 1
    assert [key for key, one in wanted.items() if one.reason == "error"] == [("stuck", 0)]
    assert len(wanted["stuck", 0].tokens) == 2
    assert sum(len(one.likeliest) for one in wanted.values()) > 30
