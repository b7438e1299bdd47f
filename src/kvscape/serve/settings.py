"""What whoever starts the server chooses."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from kvscape.errors import ConfigError


@dataclass(frozen=True)
class ServeSettings:
    """Where the server listens, whom it answers, and its limits.

    ``api_key`` None answers everybody who reaches it. ``cors_origins`` are the pages of other sites that may call it,
    ``allowed_hosts`` the names under which it may be called beside its own while it listens on loopback.
    ``max_waiting`` requests wait for a place in the batch; one more is told to come back later. ``drain_s`` is what
    running answers have to end in when the server stops.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    max_waiting: int = 256
    max_body_bytes: int = 4 * 2**20
    max_header_bytes: int = 16 * 2**10
    request_timeout_s: float = 600.0
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        for name, least, most in _RANGES:
            value = getattr(self, name)
            if not least <= value <= most:  # so that NaN is refused too
                raise ConfigError(f"{name} = {value}", f"it must be {least:,} to {most:,}", "correct the value")
        if self.api_key is not None:
            _check_key(self.api_key)
        for origin in self.cors_origins:
            _check_origin(origin)
        for name in self.allowed_hosts:
            _check_host(name)

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _check_key(key: str) -> None:
    if not key.strip():
        raise ConfigError("the API key is empty", "everybody would know it", "give one, or none at all")
    if key != key.strip() or not key.isprintable():
        raise ConfigError("the API key has spaces or control characters", "no header brings them", "give the key alone")


def _check_origin(origin: str) -> None:
    if origin not in ("*", "null") and not _is_origin(origin):
        why, do = "no browser calls a site so", "write https://example.org, without a path; * is every site"
        raise ConfigError(f"cors_origin = {origin!r}", why, do)


def _is_origin(text: str) -> bool:
    """Browsers say of a page's site its scheme, its name in lower case, and its port unless that is the usual one."""
    try:
        parts = urlsplit(text)
        known = bool(parts.scheme and parts.hostname) and parts.port != 0
    except ValueError:  # of the port, or an IPv6 address
        return False
    return known and "@" not in text and text == f"{parts.scheme}://{parts.netloc}".lower()


def _check_host(name: str) -> None:
    if not re.fullmatch(r"[\w.-]+|\[[0-9a-fA-F:.]+\]", name):
        raise ConfigError(f"allowed_host = {name!r}", "it is no name", "write example.org, without scheme and port")


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("port", 0, 65535),
    ("max_waiting", 0, 10**6),
    ("max_body_bytes", 1024, 2**30),
    ("max_header_bytes", 1024, 60 * 2**10),
    ("request_timeout_s", 0.001, 10**7),
    ("drain_s", 0, 10**7),
)
