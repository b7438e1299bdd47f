"""HTTP/1.1 on asyncio's streams: as little work for each piece of an answer as can be, so that many can be timed."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from kvscape.errors import ConfigError

_LINE_BYTES = 1 << 20
_PIECE_BYTES = 1 << 16


@dataclass(eq=False)
class Connection:
    """A stream to the server; ``used`` says that it has carried an answer before."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used: bool = False

    def close(self) -> None:
        self.writer.close()


@dataclass(frozen=True, eq=False)
class Response:
    """Status and headers, whose names are in lower case; the body is still to be read, to its end."""

    status: int
    headers: Mapping[str, str]
    connection: Connection

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises asyncio.IncompleteReadError where it ends too early."""
        reader = self.connection.reader
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            while size := int((await _line(reader)).split(b";")[0], 16):
                piece = await reader.readexactly(size + 2)
                yield piece[:-2]
            while await _line(reader):
                pass
        elif (length := self.headers.get("content-length")) is not None:
            yield await reader.readexactly(int(length))
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
    """One server, by its URL; connections that are free are used again. ``headers`` go with every request."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"endpoint = {url}", "it is no address", "give one like http://127.0.0.1:8000/v1")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host, self._port = parts.hostname, parts.port or (443 if self._tls else 80)
        self._path = parts.path.rstrip("/")
        fixed = {"Host": parts.netloc.rpartition("@")[2], "Content-Type": "application/json", **headers}
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in fixed.items())
        self._free: list[Connection] = []

    async def send(self, method: str, path: str, body: bytes = b"") -> Response:
        """Send a request and read the answer's head. Raises OSError or EOFError where there is none."""
        head = f"{method} {self._path}{path} HTTP/1.1\r\n{self._headers}Content-Length: {len(body)}\r\n\r\n"
        connection = self._free.pop() if self._free else await self._open()
        try:
            return await _exchange(connection, head.encode() + body)
        except (OSError, EOFError):
            connection.close()
            if not connection.used:
                raise
        # The server had closed a connection that was kept.
        connection = await self._open()
        try:
            return await _exchange(connection, head.encode() + body)
        except BaseException:
            connection.close()
            raise

    def release(self, response: Response, is_whole: bool) -> None:
        """Take a connection back; one whose body was not read to its end is closed."""
        if is_whole and response.can_be_used_again:
            response.connection.used = True
            self._free.append(response.connection)
        else:
            response.connection.close()

    def close(self) -> None:
        while self._free:
            self._free.pop().close()

    async def _open(self) -> Connection:
        return Connection(*await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=_LINE_BYTES))


async def _exchange(connection: Connection, message: bytes) -> Response:
    connection.writer.write(message)
    await connection.writer.drain()
    version, _, rest = (await _line(connection.reader)).partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise ConnectionError("the answer is no HTTP/1.1")
    headers: dict[str, str] = {}
    while line := await _line(connection.reader):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return Response(int(rest[:3]), headers, connection)


async def _line(reader: asyncio.StreamReader) -> bytes:
    """A line without its end; raise EOFError where the server has gone."""
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise EOFError("the server closed the connection")
    return line.rstrip(b"\r\n")
