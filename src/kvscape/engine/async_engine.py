"""The engine in a thread of its own: requests come from event loops, outputs go back to them."""

import asyncio
import logging
import time
from collections import deque
from functools import partial
from threading import Condition, Thread
from typing import NoReturn

from kvscape.engine.answer import Answer, Mailbox, hand_over
from kvscape.engine.engine import Engine
from kvscape.engine.gauges import Gauges
from kvscape.engine.request import Output, Request
from kvscape.errors import ConfigError, KvscapeError, QueueFullError, StoppedError

_LOG = logging.getLogger(__name__)
_FINISHES = 16
_LONGEST_RETRY_S = 60.0


class AsyncEngine:
    """Steps ``engine`` while it has work and sleeps while it has none; only its thread touches the engine.

    ``max_waiting`` answers may wait beyond those that fit in a batch. What a step adds goes to each event loop in one
    call, and a reader that does not come for it delays nobody. ``submit``, ``gauges`` and ``Answer.cancel`` may be used
    from any thread, ``submit`` where an event loop runs.
    """

    def __init__(self, engine: Engine, max_waiting: int = 256) -> None:
        if max_waiting < 0:
            raise ConfigError(f"max_waiting = {max_waiting}", "it must be at least 0", "correct the value")
        self._engine = engine
        self._most_open = engine.config.max_batch_size + max_waiting
        self._cancelled: deque[Mailbox] = deque()  # by any thread, without a lock: an answer may be dropped anywhere
        self._changed = Condition()  # guards all that follows
        self._mailboxes: dict[str, Mailbox] = {}
        self._num_open = 0
        self._submitted: list[Mailbox] = []
        self._finishes_s: deque[float] = deque(maxlen=_FINISHES)
        self._stopping = self._ending = False
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._run, name="kvscape-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Answer:
        """Queue ``request``.

        Raises ConfigError or CapacityError for one that cannot be served, QueueFullError while too many wait, and
        StoppedError after ``stop``.
        """
        self._check(request)
        mailbox = Mailbox(request, asyncio.get_running_loop())
        with self._changed:
            self._check_open()
            if request.request_id in self._mailboxes:
                self._turn_away_double(request.request_id)
            self._check_room()
            self._mailboxes[request.request_id] = mailbox
            self._num_open += request.params.n
            self._submitted.append(mailbox)
            self._changed.notify_all()
        return Answer(mailbox, self._cancelled.append)

    @property
    def has_failed(self) -> bool:
        """Whether its loop ended with an error: it never answers again."""
        return self._failure is not None

    def gauges(self) -> Gauges:
        """What the engine is doing now."""
        return self._engine.gauges(sum(mailbox.request.params.n for mailbox in list(self._submitted)))

    async def stop(self, drain_s: float = 0.0) -> None:
        """Take no more requests, let the present ones finish within ``drain_s``, cancel the rest, end the thread."""
        with self._changed:
            self._stopping = True
        await asyncio.to_thread(self._end, drain_s)

    def _end(self, drain_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._mailboxes, drain_s)
            self._ending = True
            self._changed.notify_all()
        self._thread.join()

    def _check(self, request: Request) -> None:
        self._engine.check(request)
        if request.prompt_logits:
            raise ConfigError("prompt_logits here", "they are gone with the next step", "use an engine of your own")

    def _check_open(self) -> None:
        if self._failure is not None:
            raise StoppedError("the engine failed", repr(self._failure), "start it again") from self._failure
        if self._stopping:
            raise StoppedError("the engine is stopping", "it takes no requests any more", "ask another one")

    def _turn_away_double(self, request_id: str) -> NoReturn:
        raise ConfigError(f"request {request_id!r} is already there", "ids are unique", "choose another id")

    def _check_room(self) -> None:
        if self._num_open >= self._most_open:
            wait_s = self._retry_after_s()
            raise QueueFullError(
                "too many requests wait",
                f"{self._num_open} answers are open, at most {self._most_open} may be",
                f"try again in {wait_s:.0f} s",
                retry_after_s=wait_s,
            )

    def _retry_after_s(self) -> float:
        """The mean time between the last answers' ends, 1 to 60 s: about when the next one ends."""
        if len(self._finishes_s) < 2:
            return 1.0
        mean_s = (self._finishes_s[-1] - self._finishes_s[0]) / (len(self._finishes_s) - 1)
        return min(max(1.0, mean_s), _LONGEST_RETRY_S)

    def _is_open(self, mailbox: Mailbox) -> bool:
        """Whether its request has not ended; another one may have its id by then."""
        return self._mailboxes.get(mailbox.request.request_id) is mailbox

    def _run(self) -> None:
        try:
            while self._take_orders():
                self._deliver(self._step())
        except BaseException as error:
            _LOG.exception("the engine's loop failed")
            self._fail(error)

    def _step(self) -> list[Output]:
        try:
            return self._engine.step()
        except Exception as error:
            outputs = self._engine.fail(error)
            if not outputs:
                raise
            _LOG.exception("a step failed; its %d answers end with an error", len(outputs))
            return outputs

    def _take_orders(self) -> bool:
        """Wait for work, queue what was submitted, end what was cancelled; False when there is nothing more to do."""
        with self._changed:
            if not self._engine.has_work:
                self._changed.wait_for(lambda: self._submitted or self._ending)
            submitted, self._submitted = self._submitted, []
            ending = self._ending
        if submitted:
            self._deliver([output for mailbox in submitted for output in self._add(mailbox.request)])
        if ending:
            self._cancelled.extend(self._mailboxes.values())
        while self._cancelled:
            mailbox = self._cancelled.popleft()
            if self._is_open(mailbox):
                self._deliver(self._engine.cancel(mailbox.request.request_id))
        return not ending

    def _add(self, request: Request) -> list[Output]:
        """Outputs where that failed: a guide or a detokenizer could not be made."""
        try:
            self._engine.add(request)
        except Exception as error:
            return self._engine.turned_away(request, error)
        return []

    def _deliver(self, outputs: list[Output]) -> None:
        """Give each event loop what its answers got, in one call."""
        parcels: dict[asyncio.AbstractEventLoop, list[tuple[Mailbox, Output]]] = {}
        for output in outputs:
            mailbox = self._mailboxes[output.request_id]
            parcels.setdefault(mailbox.loop, []).append((mailbox, output))
            if output.finish_reason is not None:
                self._close(mailbox)
        for loop, parcel in parcels.items():
            self._send(loop, parcel)

    def _send(self, loop: asyncio.AbstractEventLoop, parcel: list[tuple[Mailbox, Output]]) -> None:
        try:
            loop.call_soon_threadsafe(hand_over, parcel)
        except RuntimeError:  # the loop is closed: nobody will ever read these
            for mailbox, _ in parcel:
                self._cancelled.append(mailbox)

    def _close(self, mailbox: Mailbox) -> None:
        """Count an ended choice; forget the request with its last one."""
        with self._changed:
            self._num_open -= 1
            self._finishes_s.append(time.monotonic())
            mailbox.num_unfinished -= 1
            if mailbox.num_unfinished == 0:
                del self._mailboxes[mailbox.request.request_id]
                self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        """End every answer with StoppedError."""
        with self._changed:
            self._failure = error
            mailboxes, self._mailboxes = list(self._mailboxes.values()), {}
            self._num_open = 0
            self._changed.notify_all()
        for mailbox in mailboxes:
            reason = StoppedError("the engine failed", repr(error), "start it again")
            reason.__cause__ = error
            self._tell(mailbox, reason)

    def _tell(self, mailbox: Mailbox, reason: KvscapeError) -> None:
        try:
            mailbox.loop.call_soon_threadsafe(partial(mailbox.put, reason))
        except RuntimeError:  # the loop is closed
            _LOG.debug("nobody waits for request %r", mailbox.request.request_id)
