"""Who may ask: keys and names, as they come in headers."""

import hmac
from collections.abc import Collection, Iterable

from kvscape.serve.settings import ServeSettings

Headers = Iterable[tuple[bytes, bytes]]

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_BEARER = b"bearer "


def has_key(headers: Headers, key: bytes) -> bool:
    """Whether ``Authorization`` holds the key; the time that this takes tells nothing of it."""
    given = next((value for name, value in headers if name == b"authorization"), b"")
    return given[: len(_BEARER)].lower() == _BEARER and hmac.compare_digest(given[len(_BEARER) :].strip(), key)


def host_name(headers: Headers) -> str:
    """The name of ``Host``, without its port."""
    host = next((value for name, value in headers if name == b"host"), b"").decode("latin-1").lower()
    name, separator, port = host.rpartition(":")
    return name if separator and port.isdigit() else host


def allowed_hosts(settings: ServeSettings) -> Collection[str] | None:
    """The names under which a server on loopback may be called; None: any, for others reach it by names of theirs."""
    if not settings.on_loopback:
        return None
    own = f"[{settings.host}]" if ":" in settings.host else settings.host
    return {*_LOOPBACK_NAMES, own.lower(), *(name.lower() for name in settings.allowed_hosts)}
