"""Which records make up a study, kept up to date while it runs."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from kvscape.config import DesignPoint
from kvscape.errors import KvscapeError
from kvscape.results import current_environment
from kvscape.study.space import Space
from kvscape.study.store import Keys, Store


class Listing:
    """The points of a space that are or will be measured, in its order, then what other machines measured of it.

    What was listed for points that are not in the space any more is dropped, and so is what an older version of kvscape
    measured here; the records themselves stay in the store.
    """

    def __init__(self, store: Store, space: Space, keys: Mapping[DesignPoint, Keys]) -> None:
        self._store, self._space, self._keys = store, space, keys
        before = self._written = store.points(space.name)
        listed, own = {speed for speed, _ in before}, {speed for speed, _ in keys.values()}
        self._listed = {point for point, (speed, _) in keys.items() if speed in listed}
        self._measured_as = set(map(_as_measured, keys))
        self._others = [entry for entry in before if entry[0] not in own and self._elsewhere(entry[0])]

    def add(self, points: Iterable[DesignPoint]) -> None:
        self._listed.update(points)
        own = [self._keys[point] for point in self._space.points if point in self._listed]
        if (listed := [*own, *self._others]) != self._written:
            self._store.set_points(self._space.name, listed)
            self._written = listed

    def _elsewhere(self, key: str) -> bool:
        """Whether another machine measured a point of this space under the key."""
        record = self._store.record(key)
        if record is None or "machine" not in record.environment:
            return False
        try:
            point = DesignPoint.from_flat(record.parameters)
            here = current_environment(point.build.device).machine
            return record.environment["machine"] != here and _as_measured(point) in self._measured_as
        except KvscapeError:  # written by a version with other parameters
            return False


def _as_measured(point: DesignPoint) -> DesignPoint:
    """A record has the chunk that ran: no longer than the context."""
    engine = point.engine
    chunk = min(engine.prefill_chunk_size, engine.context_window_size)
    return replace(point, engine=replace(engine, prefill_chunk_size=chunk))
