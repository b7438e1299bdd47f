"""HTTP/1.1 on asyncio's streams: as little work for each piece of an answer as can be, so that many can be timed."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

_LINE_BYTES = 1 << 20
_PIECE_BYTES = 1 << 16


@dataclass(eq=False)
class Connection:
    """A stream to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def close(self) -> None:
        self.writer.close()


@dataclass(frozen=True, eq=False)
class Response:
    """Status and headers, whose names are in lower case; the body is still to be read, to its end."""

    status: int
    headers: Mapping[str, str]
    connection: Connection

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises EOFError where it ends too early, ConnectionError where it is no HTTP."""
        reader = self.connection.reader
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            while size := _number((await _line(reader)).split(b";")[0], 16):
                piece = await reader.readexactly(size + 2)
                yield piece[:-2]
            while await _line(reader):
                pass
        elif (length := self.headers.get("content-length")) is not None:
            yield await reader.readexactly(_number(length.encode()))
        else:
            while piece := await reader.read(_PIECE_BYTES):
                yield piece

    async def body(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])

    @property
    def can_be_used_again(self) -> bool:
        ends = "chunked" in self.headers.get("transfer-encoding", "").lower() or "content-length" in self.headers
        return ends and self.headers.get("connection", "").lower() != "close"


class Server:
    """One server, by its address; connections that are free are used again. ``headers`` go with every request."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host, self._port = parts.hostname, parts.port or (443 if self._tls else 80)
        self._path = parts.path.rstrip("/")
        fixed = {"Host": parts.netloc, "Content-Type": "application/json", **headers}
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in fixed.items())
        self._free: list[Connection] = []

    @asynccontextmanager
    async def answer(self, method: str, path: str, body: bytes = b"") -> AsyncIterator[Response]:
        """Send a request and read the answer's head; the block reads its body to the end, or raises.

        Raises OSError or EOFError where there is no answer.
        """
        head = f"{method} {self._path}{path} HTTP/1.1\r\n{self._headers}Content-Length: {len(body)}\r\n\r\n"
        response = await self._send(head.encode() + body)
        try:
            yield response
        except BaseException:  # the rest of the body is still to come
            response.connection.close()
            raise
        if response.can_be_used_again:
            self._free.append(response.connection)
        else:
            response.connection.close()

    async def _send(self, message: bytes) -> Response:
        if self._free:
            with suppress(OSError, EOFError):  # the server may have closed a connection that was kept
                return await _exchange(self._free.pop(), message)
        return await _exchange(await self._open(), message)

    def close(self) -> None:
        while self._free:
            self._free.pop().close()

    async def _open(self) -> Connection:
        return Connection(*await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=_LINE_BYTES))


async def _exchange(connection: Connection, message: bytes) -> Response:
    """Send a message and read the head of what comes; a connection that has none is closed."""
    try:
        connection.writer.write(message)
        await connection.writer.drain()
        version, _, rest = (await _line(connection.reader)).partition(b" ")
        if not version.startswith(b"HTTP/1."):
            raise ConnectionError("the answer is no HTTP/1.1")
        headers: dict[str, str] = {}
        while line := await _line(connection.reader):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return Response(_number(rest[:3]), headers, connection)
    except BaseException:
        connection.close()
        raise


async def _line(reader: asyncio.StreamReader) -> bytes:
    """A line without its end; raise EOFError where the server has gone."""
    try:
        line = await reader.readline()
    except ValueError:
        raise ConnectionError("the answer is no HTTP/1.1: it has a line without end") from None
    if not line.endswith(b"\n"):
        raise EOFError("the server closed the connection")
    return line.rstrip(b"\r\n")


def _number(text: bytes, base: int = 10) -> int:
    """A status, or a size."""
    with suppress(ValueError):
        if (number := int(text, base)) >= 0:
            return number
    raise ConnectionError(f"the answer is no HTTP/1.1: {text[:20]!r} is no number")
