"""What the arithmetic says of a design point, under the names of what is measured."""

from dataclasses import asdict

from kvscape.analysis.device import Device
from kvscape.analysis.memory import Memory
from kvscape.analysis.point_times import point_times
from kvscape.analysis.roofline import DeviceRates, predict_speed
from kvscape.config import DesignPoint, ModelConfig


def predict(
    model: ModelConfig,
    memory: Memory,
    bits_per_weight: float,
    point: DesignPoint,
    rates: DeviceRates,
    device: Device | None = None,
) -> dict[str, float]:
    """Bytes from ``memory``; speed and times from a calibrated ``device``, else from the roofline of ``rates``.

    Of requests that come over time or wait for a place, only the bytes are predicted.
    """
    found = {**asdict(memory), "total_bytes": memory.total_bytes, "bits_per_weight": bits_per_weight}
    if not point.runs_as_one:
        return found
    speed = _calibrated(model, memory, point, device) if device else _roofline(model, memory, point, rates)
    return {**found, **speed}


def _calibrated(model: ModelConfig, memory: Memory, point: DesignPoint, device: Device) -> dict[str, float]:
    """The sum of the parts of every step that the engine will take."""
    times = point_times(point, model, memory, device)
    return times.metrics(times.parts.sum(axis=1))


def _roofline(model: ModelConfig, memory: Memory, point: DesignPoint, rates: DeviceRates) -> dict[str, float]:
    return asdict(predict_speed(model, memory, point.engine, point.workload, rates))
