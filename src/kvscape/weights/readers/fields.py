"""Values of a JSON object that a stranger wrote, each checked for its kind."""

from collections.abc import Mapping
from typing import Any

from kvscape.errors import WeightsError

_MOST = 1e30


class Fields:
    """Typed access to an object; ``where`` names it in errors.

    A value of null is none: ``defaults``, which stand for what the object leaves out, do not replace it.
    """

    def __init__(self, values: Mapping[str, Any], where: str, defaults: Mapping[str, Any] | None = None) -> None:
        self.values, self.where = values, where
        self._defaults = defaults or {}

    def find(self, name: str) -> Any:
        return self.values[name] if name in self.values else self._defaults.get(name)

    def whole(self, name: str, default: int | None = None) -> int:
        value = self._required(name, default)
        if type(value) is not int or not 1 <= value < 1 << 40:
            raise self.wrong(name, f"is {_shown(value)}, not a positive whole number")
        return value

    def real(self, name: str, default: float | None = None) -> float:
        value = self._required(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _MOST:
            raise self.wrong(name, f"is {_shown(value)}, not a positive number")
        return float(value)

    def optional_real(self, name: str) -> float | None:
        return None if self.find(name) is None else self.real(name)

    def flag(self, name: str, default: bool) -> bool:
        value = self._required(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, f"is {_shown(value)}, not true or false")
        return value

    def word(self, name: str, default: str | None = None) -> str:
        value = self._required(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, f"is {_shown(value)}, not a text")
        return value

    def reals(self, name: str) -> tuple[float, ...]:
        value = self._required(name, None)
        if not isinstance(value, list) or not all(type(x) in (int, float) and 0 < x < _MOST for x in value):
            raise self.wrong(name, f"is {_shown(value)}, not a list of positive numbers")
        return tuple(map(float, value))

    def words(self, name: str) -> tuple[str, ...]:
        value = self._required(name, None)
        if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
            raise self.wrong(name, f"is {_shown(value)}, not a list of texts")
        return tuple(value)

    def inner(self, name: str) -> "Fields | None":
        """An object inside this one, None where there is none."""
        value = self.find(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(name, f"is {_shown(value)}, not an object")
        return Fields(value, f"{self.where}: {name}")

    def wrong(self, name: str, why: str) -> WeightsError:
        return WeightsError(f"{self.where}: {name}", why, "use another copy of this model")

    def _required(self, name: str, default: Any) -> Any:
        value = self.find(name)
        if value is None and default is None:
            raise self.wrong(name, "is missing")
        return default if value is None else value


def _shown(value: Any) -> str:
    try:
        text = ascii(value)
    except (RecursionError, ValueError):  # nested too deep, or a number of too many digits
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}..."
