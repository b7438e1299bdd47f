"""The times of a design point as sums of parts, and the metrics that follow from them."""

from dataclasses import dataclass

from kvscape.analysis.device import Device
from kvscape.analysis.memory import Memory
from kvscape.analysis.schedule import (
    FLOAT_ROWS,
    GPU_ROWS,
    INTEGER_ROWS,
    TIMES,
    WEBGPU_ROWS,
    FloatArray,
    Schedule,
    schedule,
)
from kvscape.analysis.step_parts import part_seconds
from kvscape.config import BuildConfig, DesignPoint, ModelConfig, adapter_name, cuda_index, is_gpu

_FLOATS = ("q0f16", "q0f32", "f16", "f32", "bf16")


@dataclass(frozen=True)
class PointTimes:
    """A point's schedule; ``parts`` [TIMES, PARTS] are seconds at the device's limits."""

    point: DesignPoint
    plan: Schedule
    parts: FloatArray

    @property
    def prompt_tokens(self) -> int:
        """Of all streams."""
        return self.point.num_requests * self.point.workload.prompt_tokens

    def metrics(self, times: FloatArray) -> dict[str, float]:
        """Rates, TTFT, TPOT and E2E of TIMES."""
        found = dict(zip(TIMES, map(float, times), strict=True))
        prefill_s, decode_s = found.pop("prefill_s"), found.pop("decode_s")
        rates = {
            "prefill_tokens_per_s": self.prompt_tokens / prefill_s,
            "decode_tokens_per_s": self.plan.decoded / decode_s,
        }
        return {**rates, **found}


def point_times(point: DesignPoint, model: ModelConfig, memory: Memory, device: Device) -> PointTimes:
    """Schedule a point whose engine fits the model."""
    floats = _multiplies_floats(point.build)
    plan = schedule(model, point.engine, point.workload, _rows(point.build, floats))
    threads = device.threads if is_gpu(point.build.device) else point.threads or device.threads
    parts = part_seconds(model, memory, device, floats, threads, plan.sums)
    return PointTimes(point, plan, parts)


def _rows(build: BuildConfig, floats: bool) -> tuple[int, ...]:
    if adapter_name(build.device) is not None:
        return WEBGPU_ROWS
    if cuda_index(build.device) is not None:
        return GPU_ROWS
    return FLOAT_ROWS if floats else INTEGER_ROWS


def _multiplies_floats(build: BuildConfig) -> bool:
    return build.quantization in _FLOATS or build.activation == "float32"
