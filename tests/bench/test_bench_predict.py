from fake_subject import MODEL

from kvscape.analysis.device import Device
from kvscape.analysis.memory import Memory
from kvscape.analysis.roofline import DeviceRates
from kvscape.bench import predict
from kvscape.config import DesignPoint
from kvscape.results import METRICS

MEMORY = Memory(weights_bytes=10_000_000, kv_cache_bytes=2000, kv_bytes_per_token=10, workspace_bytes=300)
RATES = DeviceRates(memory_bytes_per_s=1e9, operations_per_s=1e12)
DEVICE = Device("here", 2, 1e9, 1e15, 1e15, 1e-12)


def predicted(device: Device | None, **parameters: object) -> dict[str, float]:
    point = DesignPoint.from_flat({"prompt_tokens": 8, "max_tokens": 5, "threads": 2, **parameters})
    return predict(MODEL, MEMORY, 5.0, point, RATES, device)


def test_both_ways_have_the_same_names() -> None:
    assert predicted(None).keys() == predicted(DEVICE).keys()
    assert set(predicted(DEVICE)) < set(METRICS)
    assert predicted(DEVICE)["total_bytes"] == predicted(None)["total_bytes"] == 10_002_300


def test_where_only_reading_takes_time_both_say_the_same() -> None:
    calibrated, roofline = predicted(DEVICE), predicted(None)
    for name in ("decode_tokens_per_s", "tpot_s", "ttft_s", "e2e_s"):
        assert abs(calibrated[name] / roofline[name] - 1) < 0.01, name


def test_a_calibrated_machine_adds_what_every_call_takes() -> None:
    slow = Device("here", 2, 1e9, 1e15, 1e15, 1e-3)
    calls = 10 * MODEL.num_hidden_layers + 8
    assert predicted(slow)["tpot_s"] - predicted(DEVICE)["tpot_s"] > 0.99 * calls * 1e-3


def test_float_products_go_at_their_own_rate() -> None:
    uneven = Device("here", 2, 1e15, 1e12, 1e9, 1e-12)
    assert predicted(uneven, quantization="q0f16")["ttft_s"] > 50 * predicted(uneven)["ttft_s"]
