"""What the steps of a run take by the roofline, part by part: the terms that predictions of time are sums of."""

import numpy as np

from kvscape.analysis.device import Device
from kvscape.analysis.memory import Memory
from kvscape.analysis.roofline import (
    attention_operations,
    head_parameters,
    layer_parameters,
    step_calls,
    step_weights_bytes,
)
from kvscape.analysis.schedule import FloatArray
from kvscape.config import ModelConfig

PARTS = ("calls", "weights", "passes", "products", "head", "kv_reading", "attention", "host")


def part_seconds(
    model: ModelConfig, memory: Memory, device: Device, is_float: bool, threads: int, sums: FloatArray
) -> FloatArray:
    """Seconds [..., PARTS] of what is done in ``sums`` [..., SUMS].

    A step calls kernels, reads the weights and multiplies each token with them; a pass unpacks codes, which is taken to
    be as long as multiplying one row. Rates grow with threads as far as the device was measured with them. The host
    works for each row of logits before and behind the device.
    """
    steps, tokens, logit_rows, passes, logit_passes, keys_read, keys_seen = np.moveaxis(sums, -1, 0)
    share = min(threads, device.threads) / device.threads
    memory_rate, float_rate = device.memory_bytes_per_s * share, device.float_operations_per_s * share
    rate = float_rate if is_float else device.integer_operations_per_s * share
    layers, head = 2.0 * layer_parameters(model) / rate, 2.0 * head_parameters(model) / rate
    return np.stack(
        [
            steps * step_calls(model) * device.call_s,
            steps * step_weights_bytes(model, memory.weights_bytes) / memory_rate,
            passes * layers + logit_passes * head,
            tokens * layers,
            logit_rows * head,
            keys_read * memory.kv_bytes_per_token / memory_rate,
            keys_seen * attention_operations(model, 1) / float_rate,
            logit_rows * device.token_s,
        ],
        axis=-1,
    )
