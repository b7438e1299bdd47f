"""What is known of every build on every machine of a cluster."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from kvscape.config import DesignPoint
from kvscape.study.builds import Builds, Library, first_of_each, make_builds
from kvscape.study.executor import Executor, Failed
from kvscape.study.model_facts import ModelFacts
from kvscape.study.progress import StudyProgress
from kvscape.study.slot import Slot, SlotLostError
from kvscape.study.store import Store

_Made = dict[Library, ModelFacts | Failed]


def make_slot_builds(
    points: Iterable[DesignPoint], executor: Executor, slots: Iterable[Slot], progress: StudyProgress, store: Store
) -> tuple[list[Slot], dict[str, Builds]]:
    """Build here, then have it on every node; return the slots that are left, and the builds by machine."""
    firsts = first_of_each(points)
    here = make_builds(firsts.values(), executor, progress, store)
    ready = {own: point for own, point in firsts.items() if here.facts(point) is not None}
    failed = {own: why for own, point in firsts.items() if isinstance(why := here[point], Failed)}
    all_slots = list(slots)
    threads = ThreadPoolExecutor(max(1, len(all_slots)), "slot")
    try:
        made = list(threads.map(lambda slot: _made(slot, ready), all_slots))
    finally:  # Ctrl-C does not wait for what is being sent
        threads.shutdown(wait=False, cancel_futures=True)
    living = _sound([(slot, builds) for slot, builds in zip(all_slots, made, strict=True) if builds is not None])
    return [slot for slot, _ in living], {slot.machine: Builds({**failed, **builds}) for slot, builds in living}


def _sound(slots: list[tuple[Slot, _Made]]) -> list[tuple[Slot, _Made]]:
    """Leave out a node that lacks what its equals have, as one whose disk is full."""
    most = {
        slot.machine: max(_count(made) for other, made in slots if other.machine == slot.machine) for slot, _ in slots
    }
    return [(slot, made) for slot, made in slots if _count(made) == most[slot.machine]]


def _count(made: _Made) -> int:
    return sum(isinstance(facts, ModelFacts) for facts in made.values())


def _made(slot: Slot, firsts: dict[Library, DesignPoint]) -> _Made | None:
    try:
        return {own: slot.build(point) for own, point in firsts.items()}
    except SlotLostError:
        return None
