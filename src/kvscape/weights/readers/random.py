"""``random://<shape>``: weights that are made up where they are needed, for measurements that need no real ones."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qsl

import numpy as np

from kvscape.config import ModelConfig
from kvscape.errors import HubError, near_match
from kvscape.quantization.arrays import F32, Array
from kvscape.quantization.format import FORMATS, Format
from kvscape.tokenizer import byte_tokenizer
from kvscape.weights.canonical import canonical_shapes
from kvscape.weights.readers.shapes import SHAPES, with_layers
from kvscape.weights.source import SourceTensor

RANDOM = "random://"
# Weights that one generator makes: any rows can be made without those before them.
_CHUNK = 1 << 16
_GENERATOR = "PCG64, chunks of 65536, 1/sqrt(K)"


@dataclass(frozen=True)
class RandomTensor:
    """Normal values of standard deviation 1/sqrt(K), rounded to f16; a norm is 1, a bias 0: a ``SourceTensor``."""

    name: str
    seed: int
    shape: tuple[int, ...]
    first_row: int = 0

    @property
    def format(self) -> Format:
        return FORMATS["f16" if len(self.shape) > 1 else "f32"]

    @property
    def is_exact(self) -> bool:
        return True

    def kept(self) -> dict[str, Array]:
        return {"weight": self.values().astype(np.float16 if len(self.shape) > 1 else np.float32)}

    def values(self) -> F32:
        if len(self.shape) == 1:
            return np.full(self.shape, 0 if self.name.endswith(".bias") else 1, np.float32)
        rows, columns = self.shape
        step = max(1, _CHUNK // columns)
        first, last = self.first_row // step, -(-(self.first_row + rows) // step)
        made = np.concatenate([self._chunk(number, step, columns) for number in range(first, last)])
        start = self.first_row - first * step
        return made[start : start + rows].astype(np.float16).astype(np.float32)

    def part(self, rows: slice) -> "RandomTensor":
        first, last, _ = rows.indices(self.shape[0])
        return RandomTensor(self.name, self.seed, (last - first, *self.shape[1:]), self.first_row + first)

    def _chunk(self, number: int, rows: int, columns: int) -> F32:
        random = np.random.default_rng([self.seed, number, *self.name.encode()])
        return random.standard_normal((rows, columns), np.float32) / np.float32(math.sqrt(columns))


class RandomSource:
    """A model of a known shape: ``random://<shape>[?seed=N&layers=N]``. A ``Source``.

    Raises HubError for an unknown shape or option.
    """

    def __init__(self, name: str) -> None:
        shape, _, options = name.removeprefix(RANDOM).partition("?")
        if shape not in SHAPES:
            raise HubError(f"no model {name}", "only known shapes are made up", near_match(shape, SHAPES))
        given = _options(name, options)
        self.seed = given.get("seed", 0)
        layers = given.get("layers", SHAPES[shape].num_hidden_layers)
        if not 0 < layers <= SHAPES[shape].num_hidden_layers:
            most = SHAPES[shape].num_hidden_layers
            raise HubError(f"no model {name}", f"{shape} has {most} layers", f"give layers from 1 to {most}")
        self.config: ModelConfig = with_layers(SHAPES[shape], layers)
        self.name = f"random-{shape}"

    @cached_property
    def sha256(self) -> str:
        """Of what decides the values."""
        content = [_GENERATOR, self.seed, self.config.to_json()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def nbytes(self) -> int:
        return sum(2 * math.prod(shape) for shape in canonical_shapes(self.config).values())

    @cached_property
    def tokenizer_json(self) -> str:
        return byte_tokenizer(self.config.vocab_size)

    @property
    def chat_template(self) -> str | None:
        return None

    def stream(self) -> Iterator[tuple[str, SourceTensor]]:
        for name, shape in canonical_shapes(self.config).items():
            yield name, RandomTensor(name, self.seed, shape)


def _options(name: str, text: str) -> dict[str, int]:
    given = dict(parse_qsl(text, keep_blank_values=True))
    for key, value in given.items():
        if key not in ("seed", "layers"):
            raise HubError(f"no model {name}", f"{key!r} is no option", near_match(key, ("seed", "layers")))
        if not (value.isascii() and value.isdigit() and len(value) <= 18):
            raise HubError(f"no model {name}", f"{key} is {value!r}", "give a whole number")
    return {key: int(value) for key, value in given.items()}
