"""Runs the application until it is told to stop."""

import asyncio
import errno
import math
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from kvscape.errors import ConfigError
from kvscape.serve.app import make_app
from kvscape.serve.service import Service

_BACKLOG = 2048
_LAST_WORDS_S = 2.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_H11_HEADER_BYTES = 64 * 2**10  # what is incomplete; complete headers meet the limit of the settings


class ApiServer(uvicorn.Server):
    """Serves one service; ``on_ready`` is called when it takes requests.

    When it stops it takes no connections any more, gives running answers ``drain_s`` to end, and cancels the rest.
    """

    def __init__(self, service: Service, on_ready: Callable[[], None] = lambda: None) -> None:
        super().__init__(_config(service))
        self._service, self._on_ready = service, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        stopping = asyncio.create_task(self._service.stop(self._service.settings.drain_s))
        await super().shutdown(sockets)
        await stopping

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ``run_server``'s: an orderly end is a success."""
        yield

    def stop(self) -> None:
        """End in order."""
        self._service.stopping = True
        self.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """Take an address before anything is loaded; raise ConfigError for one that cannot be had. Port 0 is any."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"cannot listen at {host}", error.strerror or str(error), "give another --host") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        return listener
    except OSError as error:
        listener.close()
        raise _not_free(host, port, error) from None


def address(listener: socket.socket) -> str:
    """The URL of a listener."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_server(service: Service, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends the process at once. Only the main thread may call it."""
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        raise _not_free(service.settings.host, service.settings.port, error) from None
    asyncio.run(_run(ApiServer(service, on_ready), listener))


async def _run(server: ApiServer, listener: socket.socket) -> None:
    def on_signal(number: int) -> None:
        if server.should_exit:
            os._exit(128 + number)
        server.stop()

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    await server.serve([listener])


def _config(service: Service) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(service),
        lifespan="off",
        loop="asyncio",
        http="h11",  # the one with a limit for headers
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_H11_HEADER_BYTES,
        timeout_graceful_shutdown=math.ceil(service.settings.drain_s + _LAST_WORDS_S),
    )


def _not_free(host: str, port: int, error: OSError) -> ConfigError:
    why = (error.strerror or str(error)).lower()
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(f"cannot listen at {host}", why, "give an address of this machine as --host")
    return ConfigError(f"cannot listen at port {port}", why, "give another --port")
