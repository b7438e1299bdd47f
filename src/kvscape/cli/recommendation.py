"""A recommendation in words."""

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvscape.study.recommend import Recommendation

_SHOWN = (
    "decode_tokens_per_s",
    "tpot_s",
    "prefill_tokens_per_s",
    "ttft_s",
    "total_bytes",
    "kv_cache_bytes",
    "perplexity",
)


def print_recommendation(recommendation: "Recommendation") -> None:
    """The point, its figures, what else there is, and the commands, on stdout."""
    lines = [line for part in _parts(recommendation) for line in part]
    sys.stdout.write("\n".join(line.rstrip() for line in lines) + "\n")


def _parts(recommendation: "Recommendation") -> Iterator[list[str]]:
    from kvscape.report.quantity import level_words, settings

    met = recommendation.status == "met"
    point = recommendation.point
    yield ["Recommended:" if met else "No point meets the budget. The nearest miss:"]
    yield ["  " + ", ".join(f"{title.split(' (')[0]} {level_words(value)}" for title, value in settings(point).items())]
    yield list(_figures(recommendation))
    yield _titled("Other directions:", _others(recommendation))
    yield _titled("What the limits cost:" if met else "One of these would do:", _limits(recommendation))
    yield [f"Note: {note}" for note in recommendation.notes]
    yield ["Commands:", *(f"  {command}" for command in recommendation.commands)]
    yield _titled("The same elsewhere (not measured):", _elsewhere(recommendation))


def _titled(title: str, lines: Iterator[str]) -> list[str]:
    found = list(lines)
    return [title, *found] if found else []


def _figures(recommendation: "Recommendation") -> Iterator[str]:
    from kvscape.report.quantity import QUANTITIES

    for name in _SHOWN:
        if (value := recommendation.metrics.get(name)) is not None:
            quantity = QUANTITIES[name]
            how = (recommendation.confidence or {}).get(name, "measured")
            spread = " to ".join(map(quantity.shown, (recommendation.intervals or {}).get(name, ())))
            sure = f"({how}{', 95 % within ' + spread if spread else ''})"
            yield f"  {quantity.title:<22} {quantity.shown(value):>10} {quantity.unit:<9} {sure}"


def _others(recommendation: "Recommendation") -> Iterator[str]:
    for other in recommendation.runners_up:
        changes = ", ".join(
            f"{_title(name)} {change:+.0%}" for name, change in other.changes.items() if abs(change) > 5e-3
        )
        how = "" if other.is_measured else " (predicted)"
        yield f"  {other.direction}: {_settings(other.differs)}{how}: {changes or 'the same figures'}"


def _limits(recommendation: "Recommendation") -> Iterator[str]:
    from kvscape.report.quantity import QUANTITIES

    for relaxed in recommendation.relaxations:
        gains = ", ".join(
            f"{_title(name)} {QUANTITIES[name].shown(after)} instead of {QUANTITIES[name].shown(before)}"
            f" {QUANTITIES[name].unit}"
            for name, (before, after) in relaxed.gains.items()
        )
        yield f"  {relaxed.needed}" + (f": {gains} ({_settings(relaxed.differs)})" if gains else "")


def _elsewhere(recommendation: "Recommendation") -> Iterator[str]:
    for translation in recommendation.elsewhere:
        yield f"  {translation.engine}:"
        yield from (f"    {command}" for command in translation.commands)
        yield from (f"    # {line}" for line in translation.missing)


def _title(name: str) -> str:
    from kvscape.report.quantity import QUANTITIES

    return QUANTITIES[name].title.lower()


def _settings(differs: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in differs.items())
