"""One measurement at a time on a machine: two that share its cores would both be wrong."""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kvscape.hub.cache import cache_dir, locked

WAITING = "waiting: another kvscape measures on this machine"

# Set while a process has its turn, for the processes it starts: what they do belongs to this turn.
_HAVING = "KVSCAPE_MEASURES"


@contextmanager
def turn(waits: Callable[[], None]) -> Iterator[None]:
    """Measure alone among the processes that use this cache; ``waits`` is called before waiting for another one.

    A turn inside a turn, also in a child process, is the same turn. Raises HubError when the cache cannot be written.
    """
    if _HAVING in os.environ:
        yield
        return
    # A home folder may be shared by several machines.
    with locked(cache_dir() / "turns" / platform.node(), waits):
        os.environ[_HAVING] = str(os.getpid())
        try:
            yield
        finally:
            del os.environ[_HAVING]
