"""Speculation: a step computes drafted tokens too, and those that the model would have chosen are kept.

Speculative decoding (Leviathan et al. 2023, arXiv 2211.17192) with drafts by prompt lookup. Each place of a draft is
decided as without one, by the model's own logits and the random number of (seed, position); a draft is kept as far as
it says the same. So the tokens, sampled ones too, are those of plain decoding.
"""

from collections.abc import Sequence as Ordered
from itertools import chain

from kvscape.config import EngineConfig
from kvscape.engine.batch import LogitRow
from kvscape.engine.devices.device import Logits
from kvscape.engine.kv_cache import PagedKVCache
from kvscape.engine.model_runner import Choice, ModelRunner, Place, StepResult
from kvscape.engine.scheduler import Scheduler
from kvscape.engine.sequence import Chunk, Sequence


class DraftChunk(Chunk):
    """A sequence's newest token and its draft; the logits of all of them are wanted."""

    @property
    def token_ids(self) -> list[int]:
        return self.sequence.token_ids[self.start :] + self.sequence.draft

    @property
    def logit_positions(self) -> list[int]:
        return list(range(self.start, self.stop))


class DraftingScheduler(Scheduler):
    """Lets decoding sequences draft with what a step's budget and the free pages leave; nobody waits for a draft."""

    def __init__(self, config: EngineConfig, cache: PagedKVCache, longest_sequence: int) -> None:
        super().__init__(config, cache)
        self._most_drafted = min(config.prompt_lookup_tokens, config.prefill_chunk_size - 1)
        self._longest = longest_sequence

    def schedule(self) -> list[Chunk]:
        chunks = super().schedule()
        left = self._budget - sum(chunk.stop - chunk.start for chunk in chunks)
        for index, chunk in enumerate(chunks):
            draft = chunk.sequence.draft = self._draft(chunk, left)
            if draft:
                left -= len(draft)
                chunks[index] = DraftChunk(chunk.sequence, chunk.start, chunk.stop + len(draft))
                self._cache.grow(chunk.sequence, chunk.stop + len(draft))
        return sorted(chunks, key=lambda chunk: chunk.stop - chunk.start > 1)

    def _draft(self, chunk: Chunk, left: int) -> list[int]:
        sequence = chunk.sequence
        decodes = chunk.stop - chunk.start == 1 and chunk.stop == len(sequence.token_ids)
        if not decodes or sequence.num_output_tokens == 0 or sequence.lead is not None:
            return []
        most = min(self._most_drafted, left, self._places(chunk))
        return sequence.lookup.draft(sequence.token_ids, most) if most > 0 else []

    def _places(self, chunk: Chunk) -> int:
        """Tokens behind those of ``chunk`` that may still come, fit, and can be taken back."""
        sequence, present = chunk.sequence, chunk.stop
        wanted = sequence.request.params.max_tokens - sequence.num_output_tokens
        places = min(wanted, self._longest - present) - 1  # the last token is never computed
        return min(places, self._cache.room(sequence) - 1, self._before_rounding(present))

    def _before_rounding(self, position: int) -> int:
        """Tokens from ``position`` on that complete no group of keys: rounded keys do not come back."""
        group = self._cache.key_group
        return group - 1 - position % group if group > 1 else self._most_drafted


class VerifyingRunner(ModelRunner):
    """Decides each place of the drafts."""

    def _sample(self, rows: Ordered[LogitRow], logits: Logits, result: StepResult) -> None:
        drafted: dict[Sequence, list[Place]] = {}
        for index, row in enumerate(rows):
            if row.target is None and row.sequence.draft:
                places = drafted.setdefault(row.sequence, [])
                places.append(Place(index, row.sequence, len(places)))
        super()._sample([row._replace(target=0) if row.sequence in drafted else row for row in rows], logits, result)
        if drafted:
            choices = self._choose([*chain.from_iterable(drafted.values())], logits, result)
            result.verified = {
                sequence: agreeing([choices[place] for place in places], sequence.draft)
                if sequence.request_id not in result.errors
                else []
                for sequence, places in drafted.items()
            }


def agreeing(choices: list[Choice], draft: list[int]) -> list[Choice]:
    """What was chosen up to the first token that is not the draft's, this one included."""
    for place, ((token, _), drafted) in enumerate(zip(choices, draft, strict=False)):
        if token != drafted:
            return choices[: place + 1]
    return choices
