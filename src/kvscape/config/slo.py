"""What a user is promised of each request: ``ttft_s=0.5;tpot_s=0.05``."""

from collections.abc import Mapping

from kvscape.errors import ConfigError, near_match

SLO_NAMES = ("ttft_s", "tpot_s", "e2e_s")


def parse_slo(text: str) -> Mapping[str, float]:
    """The longest time of each measure; raise ConfigError for an unknown or repeated one, or no time."""
    found: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in SLO_NAMES:
            raise ConfigError(f"unknown measure {name!r} in slo = {text}", "", near_match(name, SLO_NAMES))
        if name in found:
            raise ConfigError(f"slo = {text}", f"{name} is set twice", "leave one out")
        found[name] = _seconds(value, part)
    if not found:
        raise ConfigError(f"slo = {text!r}", "it promises nothing", 'write "ttft_s=0.5;tpot_s=0.05"')
    return found


def _seconds(value: str, part: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"slo {part!r}", "it is no time in seconds", "write for example ttft_s=0.5")
    return seconds
