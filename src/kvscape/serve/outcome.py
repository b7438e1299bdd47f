"""How a request ended, where its status was sent before that was known."""

from starlette.types import Scope

CLIENT_GONE = 499
"""As other servers count a client that went away."""

_KEY = "kvscape.outcome"


def set_outcome(scope: Scope, status: int) -> None:
    scope[_KEY] = status


def outcome(scope: Scope, status: int) -> int:
    """The status that a request counts as; ``status`` is what was sent."""
    return int(scope.get(_KEY, status))
