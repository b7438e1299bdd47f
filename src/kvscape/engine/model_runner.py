"""Turns the chunks of one step into arrays, runs the device, and brings back scores and new tokens."""

from collections.abc import Sequence as Ordered
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, TypeAlias

from kvscape.engine.batch import LogitRow, logit_rows, step_input
from kvscape.engine.copies import pairs
from kvscape.engine.devices.device import Asked, Device, Draw, FloatArray, KVPools, Logits
from kvscape.engine.kv_cache import PagedKVCache
from kvscape.engine.sampler import wanted_draw
from kvscape.engine.sequence import Chunk, Sequence
from kvscape.engine.token_logprob import TokenLogprob, TopLogprobs

Choice: TypeAlias = tuple[int, TokenLogprob | None]

_TARGET = attrgetter("target")


class Place(NamedTuple):
    """A row of logits that chooses the token behind a sequence and the first ``ahead`` of its draft."""

    row: int
    sequence: Sequence
    ahead: int = 0


class StepResult:
    """What one step found: log-probabilities of prompt tokens, and the next token, that of unforked siblings too.

    ``logits`` are the rows of prompt tokens where a request asked for them, valid until the next step. ``errors`` has
    what choosing a request's token raised, ``verified`` what was chosen for sequences with a draft, in order.
    """

    def __init__(self) -> None:
        self.scores: dict[Sequence, list[float]] = {}
        self.logits: dict[Sequence, FloatArray] = {}
        self.tops: dict[Sequence, list[TopLogprobs]] = {}
        self.tokens: dict[Sequence, int] = {}
        self.logprobs: dict[Sequence, TokenLogprob] = {}
        self.errors: dict[str, Exception] = {}
        self.verified: dict[Sequence, list[Choice]] = {}

    def fail(self, request_id: str, error: Exception) -> None:
        """Note what went wrong first."""
        self.errors.setdefault(request_id, error)


class ModelRunner:
    """Runs the model over the pages of a cache."""

    def __init__(self, device: Device, pools: KVPools, cache: PagedKVCache) -> None:
        self._device, self._pools, self._cache = device, pools, cache

    def run(self, chunks: Ordered[Chunk]) -> StepResult:
        """Compute ``chunks``; an empty step computes nothing."""
        result = StepResult()
        if not chunks:
            return result
        rows = logit_rows(chunks)
        if self._cache.copies:
            self._copy()
        logits = self._device.forward(step_input(chunks, rows, self._cache), self._pools)
        targets = [*map(_TARGET, rows)]
        if targets.count(None) < len(targets):
            self._score(rows, logits, result)
        self._sample(rows, logits, result)
        return result

    def _copy(self) -> None:
        """Copy what is shared and about to be written; what is not copied for an error is copied in the next step."""
        copies = self._cache.copies
        self._device.copy(self._pools, [pairs(group) for group in copies.pages], pairs(copies.tails))
        copies.clear()

    def _score(self, rows: Ordered[LogitRow], logits: Logits, result: StepResult) -> None:
        logprobs = self._device.logprobs(logits, [row.target or 0 for row in rows])
        for row, logprob in zip(rows, logprobs.tolist(), strict=True):
            if row.target is not None:
                result.scores.setdefault(row.sequence, []).append(logprob)
        result.logits |= self._handed_out(rows, logits)
        self._find_tops(rows, logits, result)

    def _find_tops(self, rows: Ordered[LogitRow], logits: Logits, result: StepResult) -> None:
        """The likeliest tokens in the places that are scored, where a request asked for them."""
        asked = [
            Asked(index, row.target, row.sequence.request.params.logprobs)
            for index, row in enumerate(rows)
            if row.target is not None and row.sequence.request.params.logprobs
        ]
        if asked:
            for one, found in zip(asked, self._device.token_logprobs(logits, asked), strict=True):
                result.tops.setdefault(rows[one.row].sequence, []).append(found.top)

    def _handed_out(self, rows: Ordered[LogitRow], logits: Logits) -> dict[Sequence, FloatArray]:
        """A sequence's scored rows lie side by side, in the order of its tokens."""
        asked = [i for i, row in enumerate(rows) if row.sequence.request.prompt_logits and row.target is not None]
        if not asked:
            return {}
        fetched = self._device.fetch(logits)
        groups = {sequence: list(group) for sequence, group in groupby(asked, lambda index: rows[index].sequence)}
        return {sequence: fetched[group[0] : group[-1] + 1] for sequence, group in groups.items()}

    def _sample(self, rows: Ordered[LogitRow], logits: Logits, result: StepResult) -> None:
        plain: list[tuple[int, Sequence]] = []
        others: list[tuple[int, Sequence]] = []
        for index, row in enumerate(rows):
            if row.target is None:
                for one in (row.sequence, *row.sequence.siblings):
                    (plain if one.is_plain else others).append((index, one))
        if others:
            places = [Place(index, one) for index, one in (*plain, *others)]
            for place, (token, logprob) in self._choose(places, logits, result).items():
                result.tokens[place.sequence] = token
                if logprob is not None:
                    result.logprobs[place.sequence] = logprob
        elif plain:
            tokens = self._device.greedy(logits)
            for index, one in plain:
                result.tokens[one] = tokens[index]

    def _choose(self, places: Ordered[Place], logits: Logits, result: StepResult) -> dict[Place, Choice]:
        """What comes in each place, but for those whose choosing fails."""
        tokens = self._tokens(places, logits, result)
        asked = {
            place: Asked(place.row, token, number)
            for place, token in tokens.items()
            if (number := place.sequence.request.params.logprobs) is not None
        }
        found = self._device.token_logprobs(logits, [*asked.values()]) if asked else []
        logprobs = dict(zip(asked, found, strict=True))
        return {place: (token, logprobs.get(place)) for place, token in tokens.items()}

    def _tokens(self, places: Ordered[Place], logits: Logits, result: StepResult) -> dict[Place, int]:
        """The token of each place; where not all can be drawn, one after the other, so that only those fail."""
        draws = {place: draw for place in places if (draw := _wanted(place, result)) is not None}
        try:
            return dict(zip(draws, self._drawn(logits, [*draws.values()]), strict=True))
        except Exception:
            return {place: token for place in draws for token in self._alone(place, draws[place], logits, result)}

    def _alone(self, place: Place, draw: Draw, logits: Logits, result: StepResult) -> list[int]:
        try:
            return self._drawn(logits, [draw])
        except Exception as error:
            result.fail(place.sequence.request_id, error)
            return []

    def _drawn(self, logits: Logits, draws: Ordered[Draw]) -> list[int]:
        """The token of each draw, by the device."""
        if not draws:
            return []
        if any(draw.temperature or draw.edits is not None for draw in draws):
            return self._device.sample(logits, draws)
        greedy = self._device.greedy(logits)
        return [greedy[draw.row] for draw in draws]


def _wanted(place: Place, result: StepResult) -> Draw | None:
    """How a token is drawn, if its guide says which may come."""
    try:
        return wanted_draw(*place)
    except Exception as error:
        result.fail(place.sequence.request_id, error)
        return None
