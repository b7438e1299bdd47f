"""Decides which tokens are computed in the next step."""

from bisect import insort
from collections.abc import Iterable
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field

from kvscape.config import EngineConfig
from kvscape.engine.kv_cache import PagedKVCache
from kvscape.engine.sequence import Chunk, Sequence, Status


@dataclass
class Plan:
    """The chunks of one step so far, and how many tokens more it may have."""

    budget: int
    chunks: list[Chunk] = field(default_factory=list)

    def add(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self.budget -= chunk.stop - chunk.start

    def has(self, sequence: Sequence) -> bool:
        return any(chunk.sequence is sequence for chunk in self.chunks)


class Scheduler:
    """First come, first served, with chunked prefill, continuous batching and preemption by recomputation.

    A step has a budget of ``prefill_chunk_size`` tokens (at least one for each running sequence): decoding sequences
    take theirs first, prompts share the rest, so that a long prompt never stalls running answers; beside these they get
    ``mixed_chunk_size`` at most, which bounds how much longer such a step is. When pages run out,
    the youngest sequence gives its pages up. Those that wait are admitted in the order of their arrival, and nobody
    before the oldest of them: nobody starves.
    """

    def __init__(self, config: EngineConfig, cache: PagedKVCache) -> None:
        self._cache = cache
        self._chunk_size = config.prefill_chunk_size
        self._mixed_budget = config.mixed_chunk_size or self._chunk_size
        self._max_batch_size = config.max_batch_size
        self._budget = max(config.prefill_chunk_size, config.max_batch_size)
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.num_preemptions = 0

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        """Let ``sequence`` wait for its turn."""
        sequence.status = Status.WAITING
        insort(self.waiting, sequence, key=lambda one: one.order)

    def fork(self, parent: Sequence) -> list[Sequence]:
        """Let the siblings of ``parent``, whose prompt is computed, go on from its pages; without a place they wait."""
        siblings, parent.siblings = parent.siblings, []
        for sibling in siblings:
            if len(self.running) < self._max_batch_size:
                self._cache.fork(parent, sibling)
                self._start(sibling)
            else:
                self.add(sibling)
        return siblings

    def preempt(self, sequences: Iterable[Sequence]) -> None:
        """Take the pages of running ``sequences`` back; they are computed again."""
        for sequence in sequences:
            self._preempt(sequence)

    def finish(self, sequence: Sequence) -> None:
        """Forget ``sequence``, waiting or running, and free its pages."""
        for queue in (self.running, self.waiting):
            if sequence in queue:
                queue.remove(sequence)
        sequence.status = Status.FINISHED
        self._cache.free(sequence)

    def schedule(self) -> list[Chunk]:
        """Choose the chunks of one step, single tokens first, and give them pages."""
        plan = Plan(self._budget)
        decoding: list[Sequence] = []
        reading: list[Sequence] = []
        for sequence in self.running:
            (decoding if sequence.num_pending == 1 else reading).append(sequence)
        self._continue_running(plan, decoding)
        if reading or self.waiting:
            if plan.chunks:
                plan.budget = min(plan.budget, self._mixed_budget)
            self._continue_running(plan, reading)
            self._admit_waiting(plan)
            plan.chunks.sort(key=lambda chunk: chunk.stop - chunk.start > 1)
        return plan.chunks

    def _continue_running(self, plan: Plan, sequences: Ordered[Sequence]) -> None:
        for sequence in sequences:
            if sequence.status is not Status.RUNNING or plan.budget == 0:  # preempted for another one
                continue
            if sequence.num_pending == 1 and self._cache.has_place(sequence):
                plan.add(Chunk(sequence, sequence.num_computed, sequence.num_computed + 1))
            elif (room := self._make_room(sequence, plan)) > 0:
                self._take(sequence, room, plan)

    def _admit_waiting(self, plan: Plan) -> None:
        while self.waiting and len(self.running) < self._max_batch_size and plan.budget > 0:
            if not self._cache.admit(self.waiting[0], self._chunk_size):
                return
            sequence = self.waiting.pop(0)
            self._start(sequence)
            self._take(sequence, self._cache.room(sequence), plan)

    def _start(self, sequence: Sequence) -> None:
        sequence.status = Status.RUNNING
        insort(self.running, sequence, key=lambda one: one.order)

    def _take(self, sequence: Sequence, room: int, plan: Plan) -> None:
        """Plan as many tokens of ``sequence`` as budget and ``room`` allow."""
        tokens = min(sequence.num_pending, self._chunk_size, plan.budget, room)
        self._cache.grow(sequence, sequence.num_computed + tokens)
        plan.add(Chunk(sequence, sequence.num_computed, sequence.num_computed + tokens))

    def _make_room(self, sequence: Sequence, plan: Plan) -> int:
        """Tokens of ``sequence`` that fit; younger sequences are preempted until one does.

        Not positive if it has to wait, or was preempted itself.
        """
        while (room := self._cache.room(sequence)) <= 0:
            victim = self.running[-1]
            if plan.has(victim):
                break
            self._preempt(victim)
            if victim is sequence:
                break
        return room

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._cache.free(sequence)
        self.add(sequence)
        self.num_preemptions += 1
