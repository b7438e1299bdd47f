"""Server-sent events: the payloads of an answer that streams."""

DONE = b"[DONE]"


class Events:
    """Cuts a stream of bytes, which come in any pieces, into the payloads of its ``data:`` lines."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, piece: bytes) -> list[bytes]:
        """Payloads that are whole now; comments and other fields are left out."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]
