"""The places of a text where candidate and reference differ most, in words."""

from collections.abc import Callable, Sequence

import numpy as np

from kvscape.quality.distributions import Doubles, Ids
from kvscape.quality.divergence import TokenDivergences
from kvscape.quality.protocols import Window
from kvscape.results.divergence import Guess, WorstToken

_CONTEXT_TOKENS = 24

Decode = Callable[[Sequence[int]], str]


def worst_tokens(
    windows: Sequence[Window], parts: Sequence[TokenDivergences], decode: Decode, number: int = 10
) -> tuple[WorstToken, ...]:
    """The tokens of the largest divergence, the worst first, the earlier one of equals."""
    kl = np.concatenate([part.kl for part in parts])
    ends = np.cumsum([len(part.kl) for part in parts])
    found = []
    for index in np.argsort(-kl, kind="stable")[:number].tolist():
        window = int(np.searchsorted(ends, index, side="right"))
        place = index - (int(ends[window - 1]) if window else 0)
        found.append(_described(window, windows[window], parts[window], place, decode))
    return tuple(found)


def _described(number: int, window: Window, part: TokenDivergences, place: int, decode: Decode) -> WorstToken:
    position = window.first_target + place
    context = window.token_ids[max(0, position - _CONTEXT_TOKENS) : position]
    return WorstToken(
        window=number,
        position=position,
        kl_nats=float(part.kl[place]),
        context=decode(context),
        token=decode([window.token_ids[position]]),
        reference_probability=float(np.exp(part.reference_logprobs[place])),
        candidate_probability=float(np.exp(part.candidate_logprobs[place])),
        reference_top=_guesses(part.reference_top[place], part.reference_top_logprobs[place], decode),
        candidate_top=_guesses(part.candidate_top[place], part.candidate_top_logprobs[place], decode),
    )


def _guesses(token_ids: Ids, logprobs: Doubles, decode: Decode) -> tuple[Guess, ...]:
    pairs = zip(token_ids.tolist(), np.exp(logprobs).tolist(), strict=True)
    return tuple(Guess(decode([token]), probability) for token, probability in pairs)
