"""What the arithmetic says of a design point, under the names of what is measured."""

from dataclasses import asdict

from kvscape.analysis.memory import Memory
from kvscape.analysis.roofline import DeviceRates, predict_speed
from kvscape.config import DesignPoint, ModelConfig


def predict(
    model: ModelConfig, memory: Memory, bits_per_weight: float, point: DesignPoint, rates: DeviceRates
) -> dict[str, float]:
    """Bytes from ``memory``; speed and times from the roofline of ``rates``."""
    speed = asdict(predict_speed(model, memory, point.engine, point.workload, rates))
    return {**asdict(memory), "total_bytes": memory.total_bytes, "bits_per_weight": bits_per_weight, **speed}
