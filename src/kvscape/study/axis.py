"""The values of one axis: a list, a range, or one value alone."""

import re
from collections.abc import Iterator
from typing import Any

from kvscape.errors import ConfigError

_RANGE = re.compile(r"(-?\d+):(-?\d+):(\*?)(\d+)")
_LIKE_A_RANGE = re.compile(r"-?\d+:[-\d:*.x ]*")
_FLAG_VALUE = re.compile(r"k=\w+,v=\w+|[^,]+")
_DO = 'write "512:4096:512" for steps of 512 or "1024:8192:*2" to double; both ends belong to it'

GRAMMAR = "a list, a range start:stop:step or start:stop:*factor, or one value"


def axis_values(value: Any) -> list[Any]:
    """Every value of an axis in its order; raise ConfigError for none at all and for a range that is none."""
    items = value if isinstance(value, list) else [value]
    values = [one for item in items for one in _expanded(item)]
    if not values:
        raise ConfigError("an axis has no values", "its product with the others is empty", "give it at least one value")
    return values


def parse_axis(text: str) -> tuple[str, list[Any]]:
    """Name and values of ``kv_dtype=f16,int8`` or ``context_window_size=1024:8192:*2``."""
    name, equals, values = text.partition("=")
    if not equals or not values:
        raise ConfigError(f"--axis {text!r}", "it has no values", "write --axis kv_dtype=f16,int8")
    return name.strip().replace("-", "_"), axis_values([_typed(part) for part in _FLAG_VALUE.findall(values)])


def _typed(text: str) -> Any:
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?\d+\.\d+", text) else text


def _expanded(item: Any) -> list[Any]:
    if not isinstance(item, str) or not _LIKE_A_RANGE.fullmatch(item):
        return [item]
    match = _RANGE.fullmatch(item)
    if match is None:
        raise ConfigError(f"the range {item!r}", "it is not start:stop:step", _DO)
    start, stop, step = int(match[1]), int(match[2]), int(match[4])
    if start > stop or step < 1 or (match[3] and (step < 2 or start < 1)):
        raise ConfigError(f"the range {item!r}", "it never reaches its end", _DO)
    return list(_multiples(start, stop, step) if match[3] else range(start, stop + 1, step))


def _multiples(start: int, stop: int, factor: int) -> Iterator[int]:
    while start <= stop:
        yield start
        start *= factor
