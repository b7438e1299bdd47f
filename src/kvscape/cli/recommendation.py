"""A recommendation in words."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvscape.study.recommend import Recommendation

_SHOWN = ("decode_tokens_per_s", "prefill_tokens_per_s", "ttft_s", "total_bytes", "kv_cache_bytes", "perplexity")


def print_recommendation(recommendation: "Recommendation") -> None:
    """The point, its figures and its commands, on stdout."""
    from kvscape.report.quantity import PARAMETERS, QUANTITIES

    met = recommendation.status == "met"
    lines = ["Recommended:" if met else "No point meets the budget. The nearest miss:"]
    point = recommendation.point
    lines += ["  " + ", ".join(f"{title.split(' (')[0]} {point[name]}" for name, title in PARAMETERS.items())]
    for name in _SHOWN:
        if (value := recommendation.metrics.get(name)) is not None:
            quantity = QUANTITIES[name]
            lines.append(f"  {quantity.title:<20} {quantity.shown(value):>10} {quantity.unit}")
    lines += ["Commands:", *(f"  {command}" for command in recommendation.commands)]
    sys.stdout.write("\n".join(line.rstrip() for line in lines) + "\n")
