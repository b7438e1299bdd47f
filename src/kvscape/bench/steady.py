"""The part of a load in which it is at its level: without its beginning and its end."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from kvscape.subjects.endpoint import Answer

# Of the requests, at each end; at least one for each client.
_SHARE = 0.1


@dataclass(frozen=True)
class Steady:
    """``answers`` are those of the requests that came in the steady part; rates count what all of them did from
    ``start_s`` to ``end_s``. Too few requests have no such part: then it ``is_whole``, from the first to the last.
    """

    answers: Sequence[Answer]
    start_s: float
    end_s: float
    is_whole: bool = False

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    def holds(self, time_s: float) -> bool:
        return self.start_s <= time_s <= self.end_s


def steady_part(answers: Sequence[Answer], clients: int = 1) -> Steady:
    """Leave out the first tenth of the requests, while the server fills up, and the last one, while it empties.

    Requests are in the order in which they were due. The part ends when the last request of all is due: until then
    there is always a next one.
    """
    ends = max(clients, ceil(_SHARE * len(answers)))
    kept = answers[ends:-ends]
    start_s, end_s = (kept[0].asked_s, answers[-1].asked_s) if kept else (0.0, 0.0)
    if end_s <= start_s:
        return Steady(answers, 0.0, max((answer.ended_s for answer in answers), default=0.0), True)
    return Steady(kept, start_s, end_s)
