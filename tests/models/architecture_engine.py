"""The real engine on a compiled tiny architecture."""

from typing import Any

import numpy as np
import numpy.typing as npt

from built_tiny import BuiltTiny
from kvscape.config import EngineConfig
from kvscape.engine import Engine, Request, SamplingParams
from kvscape.engine.devices.cpu import CpuDevice

Logits = npt.NDArray[np.float32]


class WatchedDevice(CpuDevice):
    """Keeps the logits that the engine asks for."""

    def __init__(self, built: BuiltTiny) -> None:
        super().__init__(built.library, built.packed_weights, threads=2)
        self.fetched: list[Logits] = []

    def fetch(self, logits: Any) -> Logits:
        values = super().fetch(logits)
        self.fetched.append(values.copy())
        return values


def engine(device: CpuDevice, **knobs: Any) -> Engine:
    fields = {"context_window_size": 512, "prefill_chunk_size": 37, "max_batch_size": 3, "kv_dtype": "f32", **knobs}
    return Engine(device, EngineConfig(**fields))


def run(target: Engine, *requests: Request) -> dict[str, Any]:
    """Tokens of each request, and what it scored."""
    for request in requests:
        target.add(request)
    tokens: dict[str, list[int]] = {request.request_id: [] for request in requests}
    scores: dict[str, Any] = {}
    while target.has_work:
        for output in target.step():
            tokens[output.request_id] += output.token_ids
            if output.prompt_logprobs is not None:
                scores[output.request_id] = output.prompt_logprobs
    return {**tokens, **{f"{name} scores": values for name, values in scores.items()}}


def asked(name: str, prompt: list[int], max_tokens: int, **more: Any) -> Request:
    return Request(name, tuple(prompt), SamplingParams(max_tokens=max_tokens, ignore_eos=True, **more))
