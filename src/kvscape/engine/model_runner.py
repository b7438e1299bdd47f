"""Turns the chunks of one step into arrays, runs the device, and brings back scores and new tokens."""

from collections.abc import Sequence as Ordered
from itertools import groupby
from operator import attrgetter
from typing import TypeAlias

from kvscape.engine.batch import LogitRow, logit_rows, step_input
from kvscape.engine.copies import pairs
from kvscape.engine.devices.device import Device, Draw, FloatArray, KVPools, Logits
from kvscape.engine.kv_cache import PagedKVCache
from kvscape.engine.request import TokenLogprob, TopLogprobs
from kvscape.engine.sampler import choose, token_logprob, top_logprobs, wanted_draw
from kvscape.engine.sequence import Chunk, Sequence

Choosing: TypeAlias = list[tuple[int, Sequence]]
"""Rows, and the sequences whose next token they choose."""

_TARGET = attrgetter("target")


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
        self.verified: dict[Sequence, list[tuple[int, TokenLogprob | None]]] = {}

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
        numbers = [(row.sequence.request.params.logprobs or 0) if row.target is not None else 0 for row in rows]
        if any(numbers):
            fetched = self._device.fetch(logits)
            for index, number in enumerate(numbers):
                if number:
                    tops = result.tops.setdefault(rows[index].sequence, [])
                    tops.append(top_logprobs(fetched[index], number))

    def _handed_out(self, rows: Ordered[LogitRow], logits: Logits) -> dict[Sequence, FloatArray]:
        """A sequence's scored rows lie side by side, in the order of its tokens."""
        asked = [i for i, row in enumerate(rows) if row.sequence.request.prompt_logits and row.target is not None]
        if not asked:
            return {}
        fetched = self._device.fetch(logits)
        groups = {sequence: list(group) for sequence, group in groupby(asked, lambda index: rows[index].sequence)}
        return {sequence: fetched[group[0] : group[-1] + 1] for sequence, group in groups.items()}

    def _sample(self, rows: Ordered[LogitRow], logits: Logits, result: StepResult) -> None:
        greedy: Choosing = []
        drawn: Choosing = []
        chosen: Choosing = []
        for index, row in enumerate(rows):
            if row.target is None:
                for one in (row.sequence, *row.sequence.siblings):
                    (chosen if one.needs_logits else greedy if one.is_greedy else drawn).append((index, one))
        if drawn:
            greedy += drawn
            try:
                tokens = self._drawn(logits, [wanted_draw(index, one) for index, one in greedy])
                result.tokens |= zip([one for _, one in greedy], tokens, strict=True)
            except Exception:
                chosen += greedy  # one after the other, so that only those fail that cannot be drawn
        elif greedy:
            tokens = self._device.greedy(logits)
            for index, one in greedy:
                result.tokens[one] = tokens[index]
        if chosen:
            self._choose_here(chosen, logits, result)

    def _choose_here(self, choosing: Choosing, logits: Logits, result: StepResult) -> None:
        """Choose from rows of logits as the host sees them."""
        fetched = self._device.fetch(logits)
        for index, sequence in choosing:
            try:
                self._choose(fetched[index], sequence, result)
            except Exception as error:
                result.fail(sequence.request_id, error)

    def _drawn(self, logits: Logits, draws: Ordered[Draw]) -> list[int]:
        """The token of each draw, by the device."""
        if not draws:
            return []
        if any(draw.temperature for draw in draws):
            return self._device.sample(logits, draws)
        greedy = self._device.greedy(logits)
        return [greedy[draw.row] for draw in draws]

    def _choose(self, logits: FloatArray, sequence: Sequence, result: StepResult) -> None:
        token_id = choose(logits, sequence)
        result.tokens[sequence] = token_id
        if sequence.request.params.logprobs is not None:
            result.logprobs[sequence] = token_logprob(logits, token_id, sequence.request.params.logprobs)
