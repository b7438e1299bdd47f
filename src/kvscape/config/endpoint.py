"""Which server is measured, and how it is spoken to."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from kvscape.errors import ConfigError, near_match

ROUTES = ("chat", "completions")


@dataclass(frozen=True)
class EndpointConfig:
    """An OpenAI-compatible server: its URL, with or without /v1, and the name of its model, None being its first.

    ``endpoint_route`` None means chat. A request refused with 429 is sent again ``endpoint_retries`` times, after the
    server's Retry-After; None means never. All are None where the subject is no endpoint.
    """

    endpoint: str | None = None
    endpoint_model: str | None = None
    endpoint_route: str | None = None
    endpoint_retries: int | None = None

    def __post_init__(self) -> None:
        if self.endpoint is not None:
            _check_address(self.endpoint)
        if (route := self.endpoint_route) is not None and route not in ROUTES:
            raise ConfigError(f"unknown endpoint_route {route!r}", "", near_match(route, ROUTES))
        if self.endpoint_retries is not None and self.endpoint_retries < 0:
            raise ConfigError(f"endpoint_retries = {self.endpoint_retries}", "it must be at least 0", "give 0 for none")


def _check_address(url: str) -> None:
    if not _is_address(url):
        raise ConfigError(f"endpoint = {url}", "it is no address", "give one like http://127.0.0.1:8000/v1")
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ConfigError(
            "the endpoint has a user's name in it", "it would not be sent", "give a key in KVSCAPE_API_KEY"
        )
    if parts.query or parts.fragment:
        raise ConfigError(f"endpoint = {url}", "paths are added to it", "leave out what begins with ? or #")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port or an IPv6 address
        return False
    return known and url.isprintable() and " " not in url
