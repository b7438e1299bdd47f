"""What is asked of logits that stay on the GPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvscape.engine.devices.device import Draw, FloatArray
from kvscape.engine.devices.pools import TensorLogits
from kvscape.engine.devices.webgpu.draws import draw_block
from kvscape.engine.devices.webgpu.memory import WebgpuMemory, address_of, tensor_at
from kvscape.engine.devices.webgpu.player import WebgpuPlayer
from kvscape.engine.devices.webgpu.recorder import Recordings, WebgpuRecorder
from kvscape.engine.devices.webgpu.step import WebgpuInts


class WebgpuChoices:
    """Token ids and log-probabilities, fetched in the same go as they are computed."""

    def __init__(self, memory: WebgpuMemory, recorder: WebgpuRecorder, player: WebgpuPlayer) -> None:
        self._player, self._recordings = player, Recordings(recorder)
        self._ids, self._draws = WebgpuInts(memory), WebgpuInts(memory)

    def logprobs(self, function: Any, logits: TensorLogits, token_ids: Sequence[int]) -> FloatArray:
        (shape,) = self._ids.write([((len(token_ids),), token_ids)])

        def call() -> Any:
            return function(logits.tensor, *self._ids.arguments((shape,)))

        key = ("logprobs", address_of(logits.tensor), logits.rows, self._ids.generation)
        recording = self._recordings.of("logprobs", key, call)
        data = self._player.fetch(address_of(recording.result), 4 * len(token_ids), recording.dispatches)
        return np.frombuffer(data, np.float32)

    def greedy(self, function: Any, logits: TensorLogits) -> list[int]:
        address = address_of(logits.tensor)

        def call() -> Any:
            return function(logits.tensor, tensor_at(address, (logits.rows,), "int32"))  # which is not looked at

        recording = self._recordings.of("greedy", ("greedy", address, logits.rows), call)
        data = self._player.fetch(address_of(recording.result), 4 * logits.rows, recording.dispatches)
        token_ids: list[int] = np.frombuffer(data, np.int32).tolist()
        return token_ids

    def sample(self, function: Any, logits: TensorLogits, draws: Sequence[Draw]) -> list[int]:
        (shape,) = self._draws.write([draw_block(draws)])
        address = address_of(logits.tensor)

        def call() -> Any:
            not_looked_at = tensor_at(address, (len(draws),), "int32")
            return function(logits.tensor, *self._draws.arguments((shape,)), not_looked_at)

        key = ("sample", address, logits.rows, len(draws), self._draws.generation)
        recording = self._recordings.of("sample", key, call)
        data = self._player.fetch(address_of(recording.result), 4 * len(draws), recording.dispatches)
        token_ids: list[int] = np.frombuffer(data, np.int32).tolist()
        return token_ids
