"""An executor that answers at once, out of arithmetic, and notes what it was asked for."""

from dataclasses import dataclass, field

from fake_kvscape import FACTS

from kvscape.config import DesignPoint
from kvscape.quality import Settings, Text
from kvscape.results import PerplexityRecord, Record, current_environment
from kvscape.study import ModelFacts, Quality, Space
from kvscape.study.executor import Failed

QUALITY = Quality(Settings("windows", 64), Text("text", "words"))
SAMPLED = ("ttft_s", "tpot_s", "e2e_s", "itl_s", "prefill_tokens_per_s", "decode_tokens_per_s", "chars_per_s")


@dataclass
class FakeExecutor:
    """``speeds`` are the decode speeds of the next measurements, 100 when there are none."""

    speeds: list[float] = field(default_factory=list)
    asked: list[tuple[str, DesignPoint]] = field(default_factory=list)

    def build(self, point: DesignPoint) -> ModelFacts | Failed:
        self.asked.append(("build", point))
        return ModelFacts.from_json(FACTS)

    def bench(self, point: DesignPoint) -> Record:
        self.asked.append(("bench", point))
        speed = self.speeds.pop(0) if self.speeds else 100.0
        metrics = {
            "total_bytes": 1000.0 * point.engine.context_window_size,
            "decode_tokens_per_s": speed,
            "tpot_s": 0.01,
        }
        samples = {name: [speed] for name in SAMPLED}
        return Record(point.flat(), metrics, {}, samples, {"machine": current_environment().machine})

    def perplexity(self, point: DesignPoint, quality: Quality) -> PerplexityRecord:
        self.asked.append(("ppl", point))
        score = {"f16": 28.0, "int8": 28.5}[point.engine.kv_dtype]
        return PerplexityRecord(point.flat(), score, 0.5, 3.3, 100, "windows", 64, "text", "sha")

    def verbs(self, verb: str) -> list[DesignPoint]:
        return [point for asked, point in self.asked if asked == verb]


def points(contexts: int = 8) -> tuple[DesignPoint, ...]:
    return tuple(
        DesignPoint.from_flat({"model": "tiny", "kv_dtype": kv, "context_window_size": 256 * size})
        for size in range(1, contexts + 1)
        for kv in ("f16", "int8")
    )


def space(contexts: int = 8) -> Space:
    return Space("s", points(contexts), quality=QUALITY)
