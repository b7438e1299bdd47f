from dataclasses import dataclass
from typing import Any

import pytest

from kvscape.config.fields import from_mapping
from kvscape.errors import ConfigError


@dataclass(frozen=True)
class Cake:
    layers: int
    weight: float = 1.0
    name: str | None = None
    vegan: bool = False
    parts: tuple[str, ...] = ()


def test_given_keys_and_defaults() -> None:
    assert from_mapping(Cake, {"layers": 2, "name": None}) == Cake(2)
    assert from_mapping(Cake, {"layers": 2, "weight": 3}) == Cake(2, 3)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"layer": 2}, "unknown key 'layer' in cake.toml; did you mean 'layers'"),
        (
            {"temperature": 2},
            "unknown key 'temperature' in cake.toml; choose one of layers, name, parts",
        ),
        ({"layers": "2"}, "layers = '2' in cake.toml: expected int"),
        ({"layers": 2.0}, r"layers = 2\.0 in cake.toml: expected int"),
        ({"layers": True}, "layers = True in cake.toml: expected int"),
        ({"layers": None}, "layers = None in cake.toml: expected int"),
        ({"layers": 2, "weight": True}, "weight = True in cake.toml: expected float"),
        ({"layers": 2, "name": 3}, "name = 3 in cake.toml: expected str or none"),
        ({"layers": 2, "vegan": 1}, "vegan = 1 in cake.toml: expected bool"),
        ({"layers": 2, "parts": "ab"}, "parts = 'ab' in cake.toml: expected tuple"),
    ],
)
def test_mistakes_are_named_with_their_place(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(Cake, mapping, "cake.toml")


def test_a_missing_key_is_a_mistake_too() -> None:
    with pytest.raises(ConfigError, match=r"'layers' is missing in cake\.toml"):
        from_mapping(Cake, {"weight": 1.0}, "cake.toml")
