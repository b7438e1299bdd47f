"""What is asked of logits that stay on the GPU."""

from collections.abc import Sequence
from typing import Any

from kvscape.engine.devices.cuda.edits import CudaEdits
from kvscape.engine.devices.cuda.tensors import CudaDraws, CudaInts, CudaResult, fetched
from kvscape.engine.devices.device import Asked, Draw, FloatArray
from kvscape.engine.devices.edit_arrays import MOST_EDITED, asked_block, renumbered, told, width_told
from kvscape.engine.devices.library import function_of
from kvscape.engine.devices.pools import TensorLogits
from kvscape.engine.draws import sampled
from kvscape.engine.logprobs import token_logprobs
from kvscape.engine.token_logprob import TokenLogprob


class CudaChoices:
    """Token ids and log-probabilities; the host draws from a vocabulary that is too large for the kernels."""

    def __init__(self, vm: Any, device: Any, vocab_size: int) -> None:
        self._logprobs, self._greedy = vm["logprobs"], vm["greedy"]
        self._sample, self._edit, self._token_logprobs = (
            function_of(vm, name) for name in ("sample", "edit", "token_logprobs")
        )
        self._scored, self._asked = CudaInts(device), CudaInts(device)
        self._chosen, self._told = CudaResult(device), CudaResult(device)
        self._draws, self._edits = CudaDraws(device), CudaEdits(device, vocab_size)

    def logprobs(self, logits: TensorLogits, token_ids: Sequence[int]) -> FloatArray:
        (tensor,) = self._scored.fill([((len(token_ids),), token_ids)])
        return fetched(self._logprobs(logits.tensor, tensor))

    def greedy(self, logits: TensorLogits) -> list[int]:
        chosen = self._chosen.of(logits.rows)
        self._greedy(logits.tensor, chosen)
        token_ids: list[int] = fetched(chosen).tolist()
        return token_ids

    def sample(self, logits: TensorLogits, draws: Sequence[Draw]) -> list[int]:
        if self._edit is None:
            return sampled(fetched(logits.tensor), draws)
        if not any(draw.edits for draw in draws):
            return self._drawn(logits.tensor, draws)
        pieces = (draws[first : first + MOST_EDITED] for first in range(0, len(draws), MOST_EDITED))
        return [token for piece in pieces for token in self._drawn_from_edited(logits.tensor, piece)]

    def _drawn_from_edited(self, logits: Any, draws: Sequence[Draw]) -> list[int]:
        return self._drawn(self._edits.of(self._edit, logits, draws), renumbered(draws))

    def _drawn(self, logits: Any, draws: Sequence[Draw]) -> list[int]:
        chosen = self._chosen.of(len(draws))
        self._sample(logits, self._draws.fill(draws), chosen)
        token_ids: list[int] = fetched(chosen).tolist()
        return token_ids

    def token_logprobs(self, logits: TensorLogits, asked: Sequence[Asked]) -> list[TokenLogprob]:
        if self._token_logprobs is None:
            return token_logprobs(fetched(logits.tensor), asked)
        (tensor,) = self._asked.fill([asked_block(asked)])
        found = self._told.of(len(asked), width_told(asked, logits.shape[1]))
        self._token_logprobs(logits.tensor, tensor, found)
        return told(fetched(found), asked)
