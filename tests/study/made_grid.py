"""A whole grid of measurements: the recorded ones of a real model, and one made up of the same shape."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from kvscape.config import DesignPoint
from kvscape.results import Record
from kvscape.study.search import SearchSettings
from kvscape.study.search.adaptive import Predict, nothing
from kvscape.study.search.replay import replay, share

FIXTURES = Path(__file__).with_name("fixtures")
WEIGHTS = {"auto": (84, 28.7), "q8f16_1": (137, 28.6), "q4f16_1": (76, 44.5), "q3f16_1": (61, 160.0)}
PRECISIONS = {"f32": (46.0, 1.0, 1.00), "f16": (23.0, 1.0, 1.0), "int8": (11.9, 1.003, 0.99), "int4": (6.5, 1.09, 0.93)}
CONTEXTS, BATCHES = (1024, 2048, 4096, 8192), (1, 4)


@dataclass(frozen=True)
class MeasuredGrid:
    """Every point of a space with its record."""

    records: Mapping[DesignPoint, Record]

    @property
    def points(self) -> list[DesignPoint]:
        return list(self.records)

    def search(
        self, method: str, points: int, seed: int, predict: Predict = nothing, exact: Sequence[str] = ()
    ) -> list[Record]:
        """The records that a search asks for."""
        return replay(SearchSettings(method, points, seed=seed), self.records, predict, exact)

    def share(
        self, method: str, points: int, seed: int, predict: Predict = nothing, exact: Sequence[str] = ()
    ) -> float:
        """The part of the whole grid's hypervolume that a search reaches."""
        return share(self.search(method, points, seed, predict, exact), self.records)

    def memory(self, point: DesignPoint) -> dict[str, float]:
        """What the memory model knows: the exact bytes."""
        return {"total_bytes": self.records[point].metrics["total_bytes"]}


def made_grid(seed: int = 0) -> MeasuredGrid:
    """128 points: bytes are exact, decode speed comes from what a step reads and computes and has 2 % of noise."""
    random = np.random.default_rng(seed)
    records = {}
    for quantization, kv_dtype, context, batch in product(WEIGHTS, PRECISIONS, CONTEXTS, BATCHES):
        point = DesignPoint.from_flat(
            {
                "quantization": quantization,
                "kv_dtype": kv_dtype,
                "context_window_size": context,
                "max_batch_size": batch,
            }
        )
        weights, perplexity = WEIGHTS[quantization]
        cache, worse, faster = PRECISIONS[kv_dtype]
        kilobytes = cache * context * batch
        step_s = 0.0012 + weights / 26e3 * (1 + 0.55 * (batch - 1)) + cache * 192 * batch / 18e6 * (2 - faster) ** 6
        metrics = {
            "total_bytes": weights * 2**20 + kilobytes * 1000 + 40e6,
            "decode_tokens_per_s": batch / step_s * float(np.exp(0.02 * random.standard_normal())),
            "perplexity": perplexity * worse,
        }
        records[point] = Record(point.flat(), metrics, {}, {}, {})
    return MeasuredGrid(records)


def read_grid(path: Path) -> MeasuredGrid:
    """A grid that ``benchmarks/search.py`` wrote."""
    records = {}
    for entry in json.loads(path.read_text(encoding="utf-8"))["points"]:
        point = DesignPoint.from_flat(entry["parameters"])
        records[point] = Record(point.flat(), entry["metrics"], {}, {}, {})
    return MeasuredGrid(records)
