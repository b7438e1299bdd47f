"""Speculation: a step computes drafted tokens too, and those that the model would have chosen are kept.

Speculative decoding (Leviathan et al. 2023, arXiv 2211.17192) with drafts by prompt lookup. Each place of a draft is
decided as without one, by the model's own logits and the random number of (seed, position); a draft is kept as far as
it says the same. So the tokens, sampled ones too, are those of plain decoding.
"""

from collections.abc import Sequence as Ordered
from itertools import islice
from typing import TypeAlias

from kvscape.config import EngineConfig
from kvscape.engine.batch import LogitRow
from kvscape.engine.devices.device import FloatArray, Logits
from kvscape.engine.kv_cache import PagedKVCache
from kvscape.engine.model_runner import ModelRunner, StepResult
from kvscape.engine.request import TokenLogprob
from kvscape.engine.sampler import choose, token_logprob, wanted_draw
from kvscape.engine.scheduler import Scheduler
from kvscape.engine.sequence import Chunk, Sequence

Choice: TypeAlias = tuple[int, TokenLogprob | None]


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
        drafted: dict[Sequence, list[int]] = {}
        for index, row in enumerate(rows):
            if row.target is None and row.sequence.draft:
                drafted.setdefault(row.sequence, []).append(index)
        super()._sample([row._replace(target=0) if row.sequence in drafted else row for row in rows], logits, result)
        drawing = [sequence for sequence in drafted if not sequence.needs_logits]
        places = [(one, index, ahead) for one in drawing for ahead, index in enumerate(drafted[one])]
        tokens = iter(self._drawn(logits, [wanted_draw(index, one, ahead) for one, index, ahead in places]))
        fetched = self._device.fetch(logits) if len(drawing) < len(drafted) else None
        result.verified = {
            sequence: _kept(sequence, list(islice(tokens, len(indices))))
            if fetched is None or not sequence.needs_logits
            else self._chosen(sequence, fetched[indices[0] : indices[-1] + 1], result)
            for sequence, indices in drafted.items()
        }

    def _chosen(self, sequence: Sequence, logits: FloatArray, result: StepResult) -> list[Choice]:
        """Choose token after token as if the ones before were there, up to the first that is not the draft's."""
        known, number = len(sequence.token_ids), sequence.request.params.logprobs
        kept: list[Choice] = []
        try:
            for row, drafted in zip(logits, [*sequence.draft, None], strict=True):
                token = choose(row, sequence)
                kept.append((token, None if number is None else token_logprob(row, token, number)))
                if token != drafted:
                    break
                sequence.token_ids.append(token)
        except Exception as error:
            result.fail(sequence.request_id, error)
            return []
        finally:
            del sequence.token_ids[known:]
        return kept


def _kept(sequence: Sequence, chosen: list[int]) -> list[Choice]:
    return [(token, None) for token in agreeing(chosen, sequence.draft)]


def agreeing(chosen: list[int], draft: list[int]) -> list[int]:
    """The chosen tokens up to the first one that is not the draft's, this one included."""
    for place, drafted in enumerate(draft):
        if chosen[place] != drafted:
            return chosen[: place + 1]
    return chosen
