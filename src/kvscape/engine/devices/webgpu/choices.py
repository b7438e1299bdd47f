"""What is asked of logits that stay on the GPU."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kvscape.engine.devices.device import Asked, Draw, FloatArray
from kvscape.engine.devices.edit_arrays import MOST_EDITED, asked_block, edit_arrays, renumbered, told, width_told
from kvscape.engine.devices.pools import TensorLogits
from kvscape.engine.devices.webgpu.draws import draw_block
from kvscape.engine.devices.webgpu.memory import WebgpuMemory, address_of, tensor_at
from kvscape.engine.devices.webgpu.player import WebgpuPlayer
from kvscape.engine.devices.webgpu.recorder import Recordings, WebgpuRecorder
from kvscape.engine.devices.webgpu.step import WebgpuInts
from kvscape.engine.token_logprob import TokenLogprob


class WebgpuChoices:
    """Token ids and log-probabilities, fetched in the same go as they are computed."""

    def __init__(self, vm: Any, memory: WebgpuMemory, recorder: WebgpuRecorder, player: WebgpuPlayer) -> None:
        self._functions = {name: vm[name] for name in ("logprobs", "greedy", "sample", "edit", "token_logprobs")}
        self._player, self._recordings = player, Recordings(recorder)
        self._ids, self._draws, self._edits, self._asked = (WebgpuInts(memory) for _ in range(4))

    def logprobs(self, logits: TensorLogits, token_ids: Sequence[int]) -> FloatArray:
        (shape,) = self._ids.write([((len(token_ids),), token_ids)])

        def call() -> Any:
            return self._functions["logprobs"](logits.tensor, *self._ids.arguments((shape,)))

        key = ("logprobs", address_of(logits.tensor), logits.rows, self._ids.generation)
        recording = self._recordings.of("logprobs", key, call)
        data = self._player.fetch(address_of(recording.result), 4 * len(token_ids), recording.dispatches)
        return np.frombuffer(data, np.float32)

    def greedy(self, logits: TensorLogits) -> list[int]:
        address = address_of(logits.tensor)

        def call() -> Any:
            not_looked_at = tensor_at(address, (logits.rows,), "int32")
            return self._functions["greedy"](logits.tensor, not_looked_at)

        return self._token_ids("greedy", ("greedy", address, logits.rows), call, logits.rows)

    def sample(self, logits: TensorLogits, draws: Sequence[Draw]) -> list[int]:
        if not any(draw.edits for draw in draws):
            return self._drawn(logits, draws)
        pieces = (draws[first : first + MOST_EDITED] for first in range(0, len(draws), MOST_EDITED))
        return [token for piece in pieces for token in self._drawn_from_edited(logits, piece)]

    def _drawn(self, logits: TensorLogits, draws: Sequence[Draw]) -> list[int]:
        (shape,) = self._draws.write([draw_block(draws)])
        key = ("sample", address_of(logits.tensor), logits.rows, len(draws), self._draws.generation)
        return self._token_ids("sample", key, lambda: self._sample(logits.tensor, shape), len(draws))

    def _drawn_from_edited(self, logits: TensorLogits, draws: Sequence[Draw]) -> list[int]:
        shapes = self._edits.write_arrays(edit_arrays(draws, logits.shape[1]))
        (shape,) = self._draws.write([draw_block(renumbered(draws))])
        address = address_of(logits.tensor)

        def call() -> Any:
            not_looked_at = tensor_at(address, (len(draws), logits.shape[1]), "float32")
            edited = self._functions["edit"](logits.tensor, *self._edits.arguments(shapes), not_looked_at)
            return self._sample(edited, shape)

        generations = self._draws.generation, self._edits.generation
        return self._token_ids("edit", ("edit", address, logits.rows, len(draws), *generations), call, len(draws))

    def _sample(self, logits: Any, shape: tuple[int, ...]) -> Any:
        not_looked_at = tensor_at(address_of(logits), shape[:1], "int32")
        return self._functions["sample"](logits, *self._draws.arguments((shape,)), not_looked_at)

    def _token_ids(self, name: str, key: Any, call: Callable[[], Any], number: int) -> list[int]:
        recording = self._recordings.of(name, key, call)
        data = self._player.fetch(address_of(recording.result), 4 * number, recording.dispatches)
        token_ids: list[int] = np.frombuffer(data, np.int32).tolist()
        return token_ids

    def token_logprobs(self, logits: TensorLogits, asked: Sequence[Asked]) -> list[TokenLogprob]:
        (shape,) = self._asked.write([asked_block(asked)])
        address, width = address_of(logits.tensor), width_told(asked, logits.shape[1])

        def call() -> Any:
            not_looked_at = tensor_at(address, (len(asked), width), "int32")
            return self._functions["token_logprobs"](logits.tensor, *self._asked.arguments((shape,)), not_looked_at)

        key = ("token_logprobs", address, logits.rows, len(asked), width, self._asked.generation)
        recording = self._recordings.of("token_logprobs", key, call)
        data = self._player.fetch(address_of(recording.result), 4 * len(asked) * width, recording.dispatches)
        return told(np.frombuffer(data, np.int32).reshape(-1, width), asked)
