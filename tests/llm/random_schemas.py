"""JSON schemas from a seed, of every kind that a schema may be of; what fits them is short."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

Schema: TypeAlias = dict[str, Any]


def random_schema(seed: int) -> Schema:
    return _Made(np.random.default_rng(seed)).root()


class _Made:
    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._definitions: dict[str, Schema] = {}
        self._plain: tuple[Callable[[], Schema], ...] = (
            self._string, self._integer, self._number, self._boolean, self._null, self._enumeration, self._constant,
            self._pattern, self._format,
        )  # fmt: skip

    def root(self) -> Schema:
        schema = self._object(3) if self._chance(0.7) else self._any(3)
        return {**schema, "$defs": self._definitions} if self._definitions else schema

    def _any(self, depth: int) -> Schema:
        nested = (self._object, self._array, self._alternatives, self._reference, self._tuple)
        if depth == 0 or self._chance(0.5):
            plain: Schema = self._pick(self._plain)()
            return plain
        schema: Schema = self._pick(nested)(depth - 1)
        return schema

    def _pick(self, values: Any) -> Any:
        return values[int(self._random.integers(len(values)))]

    def _chance(self, share: float) -> bool:
        return bool(self._random.random() < share)

    def _bounds(self, most: int) -> tuple[int, int]:
        low, high = sorted(self._random.integers(0, most + 1, 2).tolist())
        return low, high

    def _string(self) -> Schema:
        least, most = self._bounds(12)
        return {"type": "string", "minLength": least, "maxLength": most}

    def _integer(self) -> Schema:
        low, high = sorted(self._random.integers(-1000, 1000, 2).tolist())
        exclusive = self._chance(0.3) and high - low > 2
        names = ("exclusiveMinimum", "exclusiveMaximum") if exclusive else ("minimum", "maximum")
        return {"type": "integer", names[0]: low, names[1]: high}

    def _number(self) -> Schema:
        return {"type": "number", "minimum": -1.5, "maximum": 1000.25} if self._chance(0.5) else {"type": "number"}

    def _boolean(self) -> Schema:
        return {"type": "boolean"}

    def _null(self) -> Schema:
        return {"type": "null"}

    def _enumeration(self) -> Schema:
        values = ["red", 'quo"ted', "naïve ☃", 7, -0.5, None, True, [1, 2], {"a": "b"}]
        return {"enum": values[: self._bounds(8)[1] + 1]}

    def _constant(self) -> Schema:
        return {"const": self._pick(["x", 3, False, {"k": [1, "z"]}, "tab\t\\ newline\n"])}

    def _pattern(self) -> Schema:
        return {"type": "string", "pattern": self._pick(["^[a-c]{2,5}$", "^(yes|no)$", r"^\d{3}-\d{2}$"])}

    def _format(self) -> Schema:
        return {"type": "string", "format": self._pick(["date", "uuid", "ipv4", "time"])}

    def _object(self, depth: int) -> Schema:
        names = [self._pick(["a", "long name", "x_1", "é", 'q"', "id", "deep"]) for _ in range(self._bounds(4)[1])]
        properties = {name: self._any(depth) for name in names}
        required = [name for name in properties if self._chance(0.6)]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def _array(self, depth: int) -> Schema:
        least, most = self._bounds(3)
        return {"type": "array", "items": self._any(depth), "minItems": least, "maxItems": most}

    def _tuple(self, depth: int) -> Schema:
        parts = [self._any(depth) for _ in range(2)]
        return {"type": "array", "prefixItems": parts, "items": False, "minItems": 2}

    def _alternatives(self, depth: int) -> Schema:
        return {"anyOf": [self._any(depth) for _ in range(2)]}

    def _reference(self, depth: int) -> Schema:
        name = f"part{len(self._definitions)}"
        self._definitions[name] = {}
        self._definitions[name] = self._any(depth)
        return {"$ref": f"#/$defs/{name}"}
