import numpy as np
import pytest
from test_analysis_roofline import MEMORY, SMOLLM2

from kvscape.analysis.device import Device
from kvscape.analysis.roofline import attention_operations, head_parameters, layer_parameters
from kvscape.analysis.schedule import SUMS
from kvscape.analysis.step_parts import PARTS, part_seconds

DEVICE = Device("here", 2, 1e10, 4e11, 1e11, 2e-6, 1e-5)


def parts(is_float: bool = False, threads: int = 2, **sums: float) -> dict[str, float]:
    row = np.array([sums.get(name, 0.0) for name in SUMS])
    return dict(zip(PARTS, part_seconds(SMOLLM2, MEMORY, DEVICE, is_float, threads, row), strict=True))


def test_each_sum_has_its_parts() -> None:
    step = parts(steps=3)
    assert step["weights"] == pytest.approx(3 * 84_000_000 / 1e10)
    assert step["calls"] == pytest.approx(3 * 308 * 2e-6)
    assert parts(tokens=5)["products"] == pytest.approx(5 * 2 * layer_parameters(SMOLLM2) / 4e11)
    assert parts(logit_rows=2)["head"] == pytest.approx(2 * 2 * head_parameters(SMOLLM2) / 4e11)
    assert parts(keys_read=100)["kv_reading"] == pytest.approx(100 * 23040 / 1e10)
    assert parts(keys_seen=100)["attention"] == pytest.approx(attention_operations(SMOLLM2, 100) / 1e11)
    assert parts(logit_rows=2)["host"] == pytest.approx(2e-5)
    both = parts(passes=1, logit_passes=1)["passes"]
    assert both == pytest.approx(2 * (layer_parameters(SMOLLM2) + head_parameters(SMOLLM2)) / 4e11)
    assert sum(value > 0 for value in parts(tokens=5).values()) == 1


def test_float_products_go_at_the_float_rate() -> None:
    assert parts(True, tokens=1)["products"] == pytest.approx(4 * parts(tokens=1)["products"])


def test_threads_share_the_work_as_far_as_they_were_measured() -> None:
    one, two, four = (parts(threads=threads, tokens=1)["products"] for threads in (1, 2, 4))
    assert one == 2 * two == 2 * four
