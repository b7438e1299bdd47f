"""Which server is measured, and how it is spoken to."""

from dataclasses import dataclass

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
        if (route := self.endpoint_route) is not None and route not in ROUTES:
            raise ConfigError(f"unknown endpoint_route {route!r}", "", near_match(route, ROUTES))
        if self.endpoint_retries is not None and self.endpoint_retries < 0:
            raise ConfigError(f"endpoint_retries = {self.endpoint_retries}", "it must be at least 0", "give 0 for none")
