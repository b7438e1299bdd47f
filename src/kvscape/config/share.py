"""A share of one, as people write it."""

import math

from kvscape.errors import ConfigError


def parse_share(text: str) -> float:
    """The number 0.03 of "3%" or "0.03"; raise ConfigError for anything else."""
    number = text.strip().removesuffix("%")
    try:
        value = float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0) or "_" in text:
        raise ConfigError(f"{text!r} is not a share", "it is no number with or without %", "write for example 2%")
    return value
