"""What a library of stages says of itself: the functions between the linear products of a model's layers."""

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Product:
    """A linear product of every layer: its name within the layer, and the shape of its weight."""

    name: str
    rows: int
    columns: int


@dataclass(frozen=True)
class StagesMetadata:
    """``products`` are in order. ``functions`` has the arguments of each function, by name: ``x`` are hidden states,
    a product's name its result, ``layer.NAME`` and ``norm`` the weights of norms, the others are a step's. Rows of the
    embedding times ``embedding_scale`` are the first hidden states."""

    products: tuple[Product, ...]
    functions: dict[str, tuple[str, ...]]
    embedding_scale: float
    query_tile_tokens: int
    key_range_tokens: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "StagesMetadata":
        raw: dict[str, Any] = json.loads(text)
        products = tuple(Product(**product) for product in raw["products"])
        functions = {name: tuple(arguments) for name, arguments in raw["functions"].items()}
        return cls(**{**raw, "products": products, "functions": functions})


def stage_name(group: int, stage: int) -> str:
    """The function of a layer group that leads to product ``stage``, or behind the last one."""
    return f"group{group}_stage{stage}"
