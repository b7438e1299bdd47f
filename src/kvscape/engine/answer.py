"""What a request gets, as its event loop sees it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable

from kvscape.engine.request import Output, Request
from kvscape.errors import KvscapeError


class Mailbox:
    """Where the outputs of a request wait for its reader: at most ``max_tokens`` for each choice.

    ``num_unfinished`` choices are still computed; the engine's thread counts them. All else is its event loop's.
    """

    def __init__(self, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        self.request, self.loop = request, loop
        self.num_unfinished = request.params.n
        self._arrived: deque[Output | KvscapeError] = deque()
        self._news = asyncio.Event()

    def put(self, item: Output | KvscapeError) -> None:
        self._arrived.append(item)
        self._news.set()

    async def take(self) -> Output:
        """Wait for the next output; raise what the engine failed with."""
        while not self._arrived:
            self._news.clear()
            await self._news.wait()
        item = self._arrived.popleft()
        if isinstance(item, KvscapeError):
            raise item
        return item


class Answer:
    """The outputs of one request, to be iterated in the event loop that submitted it.

    The iteration ends after the last output of every choice. Leaving it early cancels the request, and so does dropping
    the answer. It raises StoppedError if the engine itself fails.
    """

    def __init__(self, mailbox: Mailbox, cancel: Callable[[Mailbox], None]) -> None:
        self._mailbox, self._cancel = mailbox, cancel
        self._num_unread = mailbox.request.params.n

    async def __aiter__(self) -> AsyncIterator[Output]:
        try:
            while self._num_unread > 0:
                output = await self._mailbox.take()
                self._num_unread -= output.finish_reason is not None
                yield output
        finally:
            self.cancel()

    def cancel(self) -> None:
        """End the request and free its pages before the next step, from any thread; its choices end "cancelled"."""
        if self._num_unread > 0:
            self._cancel(self._mailbox)

    def __del__(self) -> None:
        self.cancel()


def hand_over(parcel: Iterable[tuple[Mailbox, Output]]) -> None:
    """Give outputs to their readers; the event loop calls it."""
    for mailbox, output in parcel:
        mailbox.put(output)
