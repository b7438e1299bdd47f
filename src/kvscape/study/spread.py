"""A study's points on several devices at once: each device has one point, and each record is stored as it comes."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

from kvscape.config import DesignPoint, cuda_index
from kvscape.errors import DeviceError
from kvscape.results import PerplexityRecord, Record
from kvscape.study.builds import Builds, study_keys
from kvscape.study.executor import Executor, Failed, unmeasured, unscored
from kvscape.study.feasibility import UNLIMITED_BYTES, infeasible_reason
from kvscape.study.measuring import Wanted, label, waits
from kvscape.study.progress import LOST, StudyProgress
from kvscape.study.slot import Slot, SlotLostError
from kvscape.study.slot_builds import make_slot_builds
from kvscape.study.space import Quality, Space
from kvscape.study.store import Keys, Store

# A point that ends the node it is on may end every node.
_MOST_LOSSES = 2


@dataclass(frozen=True)
class Work:
    """One record to make; ``losses`` are the nodes that ended with it."""

    point: DesignPoint
    repeat: int = 0
    verb: str = "bench"
    losses: int = 0


Answer = Record | PerplexityRecord


def make_spread(
    space: Space, store: Store, executor: Executor, slots: Iterable[Slot], progress: StudyProgress, retry: bool
) -> "Spread":
    """Have every build on every node; raise DeviceError when no node is left."""
    living, builds = make_slot_builds(space.points, executor, slots, progress, store)
    if not living:
        raise _nobody()
    own = {machine: study_keys(space, of_machine, machine) for machine, of_machine in builds.items()}
    statuses = store.statuses()
    keys = {point: _best([table[point] for table in own.values()], statuses) for point in space.points}
    return Spread(store, living, progress, builds, own, keys, space.quality, retry)


def _best(candidates: list[Keys], statuses: Mapping[str, str]) -> Keys:
    """What one of the machines measured is kept."""
    rank = {"ok": 0, None: 2}
    return min(candidates, key=lambda keys: rank.get(statuses.get(keys[0]), 1))


@dataclass
class Spread:
    """Gives work to the slots that have none. What a node was measuring when it ended is measured by another one.

    ``builds`` and ``own`` are by machine; ``keys`` says which machine's record of a point counts.
    """

    store: Store
    slots: list[Slot]
    progress: StudyProgress
    machines: Mapping[str, Builds]
    own: Mapping[str, Mapping[DesignPoint, Keys]]
    keys: dict[DesignPoint, Keys]
    quality: Quality | None
    retry: bool
    _waiting: deque[Work] = field(default_factory=deque)
    _running: dict[Future[Answer], tuple[Slot, Work, float]] = field(default_factory=dict)
    _took_s: dict[DesignPoint, float] = field(default_factory=dict)
    _scored: set[str] = field(default_factory=set)
    _parked: dict[str, list[DesignPoint]] = field(default_factory=dict)

    @property
    def builds(self) -> Builds:
        return next(iter(self.machines.values()))

    @property
    def available_bytes(self) -> Callable[[str], int]:
        """Of the node that has most; what its GPUs have it says itself."""
        most = max(slot.available_bytes for slot in self.slots)
        return lambda device: most if cuda_index(device) is None else UNLIMITED_BYTES

    def each(self, wanted: Iterable[Wanted]) -> Iterator[tuple[DesignPoint, float | None]]:
        """Points as they are done; the next is asked for when a slot has nothing to do."""
        source = iter(wanted)
        threads = ThreadPoolExecutor(len(self.slots), "slot")
        try:
            while True:
                if pair := self._pair():
                    self._start(threads, *pair)
                elif self._idle() and (entry := next(source, None)) is not None:
                    yield from self._add(*entry)
                elif self._running:
                    yield from self._settle()
                else:
                    break
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
        if not self.slots:
            raise _nobody()

    def _idle(self) -> list[Slot]:
        busy = [slot for slot, _, _ in self._running.values()]
        return [slot for slot in self.slots if slot not in busy]

    def _pair(self) -> tuple[Slot, Work] | None:
        return next(((slot, work) for work in self._waiting for slot in self._idle() if self._suits(slot, work)), None)

    def _suits(self, slot: Slot, work: Work) -> bool:
        """What fits no node may go to any, which says why."""
        if work.verb == "ppl" or work.repeat:
            return self._is_of(slot, work)
        return self._fits(slot, work.point) or not any(self._fits(other, work.point) for other in self.slots)

    def _is_of(self, slot: Slot, work: Work) -> bool:
        """Whether a node's library is the one that a record is of, and for a repeat its machine too."""
        place = 1 if work.verb == "ppl" else 0
        return self.own[slot.machine][work.point][place] == self.keys[work.point][place]

    def _fits(self, slot: Slot, point: DesignPoint) -> bool:
        facts = self.machines[slot.machine].facts(point)
        return facts is not None and not infeasible_reason(point, facts, slot.available_bytes)

    def _add(self, point: DesignPoint, repeat: int) -> Iterator[tuple[DesignPoint, float | None]]:
        """A point that the search asks for: what is missing of it waits, and it is done where nothing is."""
        found = self.store.repeat(self.keys[point][0], repeat)
        work = Work(point, repeat)
        if waits(found.status if found else None, self.retry) and not self._is_orphan(work):
            self._waiting.append(work)
        elif repeat or not self._adds_quality(point):
            yield point, None

    def _is_orphan(self, work: Work) -> bool:
        """Whether only a machine that has gone could do it."""
        bound = work.repeat > 0 or work.verb == "ppl"
        return bound and not any(self._is_of(slot, work) for slot in self.slots)

    def _adds_quality(self, point: DesignPoint) -> bool:
        """Whether the point waits for a perplexity, its own or that of an equal one."""
        key = self.keys[point][1]
        if key is None:
            return False
        if key in self._parked:
            self._parked[key].append(point)
            return True
        found = self.store.perplexity(key)
        if key in self._scored or not waits(found.status if found else None, self.retry):
            return False
        self._parked[key] = [point]
        self._waiting.appendleft(Work(point, verb="ppl"))
        return True

    def _start(self, threads: ThreadPoolExecutor, slot: Slot, work: Work) -> None:
        self._waiting.remove(work)
        self.progress.begin(_name(slot, work))
        call = threads.submit(self._answer, slot, work)
        self._running[call] = slot, work, time.monotonic()

    def _answer(self, slot: Slot, work: Work) -> Answer:
        """What the slot says; in a thread, where nothing else is touched."""
        if work.verb == "bench":
            return slot.bench(work.point)
        assert self.quality is not None
        return slot.perplexity(work.point, self.quality)

    def _settle(self) -> Iterator[tuple[DesignPoint, float | None]]:
        """Wait for an answer, and keep it."""
        for call in wait(self._running, return_when=FIRST_COMPLETED).done:
            slot, work, start = self._running.pop(call)
            self.progress.begin(_name(slot, work))  # of several, the one that ends
            try:
                record = call.result()
            except SlotLostError as lost:
                yield from self._lose(slot, work, lost)
            else:
                yield from self._keep(work, record, slot.machine, time.monotonic() - start)

    def _lose(self, slot: Slot, work: Work, lost: SlotLostError) -> Iterator[tuple[DesignPoint, float | None]]:
        """Go on without a node; a point that ended several is given up, unless they all went."""
        self.slots.remove(slot)
        again = replace(work, losses=work.losses + 1)
        if again.losses < _MOST_LOSSES or not self.slots:
            self.progress.end(LOST, f"{lost}; it is measured elsewhere")
            self._waiting.appendleft(again)
            yield from self._drop_orphans()
            return
        failed = Failed("failed", f"{again.losses} nodes ended while they measured it: {lost}")
        if work.verb == "bench":
            yield from self._keep(work, unmeasured(work.point, failed), slot.machine, 0.0)
        else:
            assert self.quality is not None
            yield from self._keep(work, unscored(work.point, self.quality, failed), slot.machine, 0.0)

    def _drop_orphans(self) -> Iterator[tuple[DesignPoint, float | None]]:
        """Leave what only a machine that has gone could do, unless the study ends here and goes on later."""
        for work in [work for work in self._waiting if self.slots and self._is_orphan(work)]:
            self._waiting.remove(work)
            key = self.keys[work.point][1]
            for point in [work.point] if work.verb == "bench" or key is None else self._parked.pop(key):
                yield point, self._took_s.pop(point, None)

    def _keep(
        self, work: Work, record: Answer, machine: str, took_s: float
    ) -> Iterator[tuple[DesignPoint, float | None]]:
        point = work.point
        self._took_s[point] = self._took_s.get(point, 0.0) + took_s
        if work.verb == "bench":
            self.keys[point] = self.own[machine][point]
            self.store.put(self.keys[point][0], record, work.repeat, took_s)
        self.progress.end(record.status, record.reason)
        if work.verb == "bench":
            if work.repeat or not self._adds_quality(point):
                yield point, self._took_s.pop(point)
            return
        key = self.keys[point][1]
        assert key is not None
        self.store.put(key, record, 0, took_s)
        self._scored.add(key)
        for done in self._parked.pop(key):
            yield done, self._took_s.pop(done, None)


def _name(slot: Slot, work: Work) -> str:
    return f"{slot.name}: {label(work.verb, work.point)}"


def _nobody() -> DeviceError:
    do = "start nodes again and run the command again: what is measured is kept"
    return DeviceError("no node of the cluster is left", "each of them has ended or could not be used", do)
