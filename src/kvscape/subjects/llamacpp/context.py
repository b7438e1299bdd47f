"""One context of llama.cpp: tokens of several sequences go in, the wanted rows of logits come out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvscape.config import EngineConfig
from kvscape.errors import DeviceError
from kvscape.subjects.llamacpp.library import Library
from kvscape.subjects.llamacpp.names import TENSOR_TYPES, kv_types

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """One token of a step: where it goes, and whether the logits after it are wanted."""

    token_id: int
    position: int
    sequence: int
    wanted: bool


class Context:
    """A KV cache with its compute buffers; ``log`` is what llama.cpp said of them.

    ``logit_rows`` bounds the rows of logits of one step: a context that generates wants one for each sequence.
    Raises DeviceError when llama.cpp cannot make it.
    """

    def __init__(self, library: Library, model: Any, config: EngineConfig, threads: int, logit_rows: int) -> None:
        self._api = library.api
        self.max_tokens = max(config.prefill_chunk_size, config.max_batch_size)
        library.log.clear()
        self._context = self._api.llama_init_from_model(model, self._params(config, threads, logit_rows))
        self.log = library.log.text
        if not self._context:
            raise DeviceError("llama.cpp cannot make this context", library.log.error, "choose another design point")
        self._memory = self._api.llama_get_memory(self._context)
        self._batch = self._api.llama_batch_init(self.max_tokens, 0, 1)
        self._vocab_size = int(self._api.llama_vocab_n_tokens(self._api.llama_model_get_vocab(model)))

    def _params(self, config: EngineConfig, threads: int, logit_rows: int) -> Any:
        params = self._api.llama_context_default_params()
        params.n_ctx = config.context_window_size * config.max_batch_size
        params.n_seq_max = config.max_batch_size
        params.kv_unified = False  # a sequence attends to its own share of the cache only
        params.n_batch = params.n_ubatch = self.max_tokens
        params.n_outputs_max = logit_rows
        params.n_threads = params.n_threads_batch = threads
        params.type_k, params.type_v = (TENSOR_TYPES[name] for name in kv_types(config.kv_dtype))
        return params  # flash attention is on by itself where it can be, and where V is quantized

    def clear(self) -> None:
        """Forget every sequence."""
        self._api.llama_memory_clear(self._memory, False)

    def decode(self, places: Sequence[Place]) -> Logits:
        """Compute one step; return f32 [wanted rows, vocab], valid until the next."""
        for index, place in enumerate(places):
            self._batch.token[index] = place.token_id
            self._batch.pos[index] = place.position
            self._batch.n_seq_id[index] = 1
            self._batch.seq_id[index][0] = place.sequence
            self._batch.logits[index] = place.wanted
        self._batch.n_tokens = len(places)
        if status := self._api.llama_decode(self._context, self._batch):
            raise DeviceError("llama.cpp failed", f"llama_decode returned {status}", "choose a smaller design point")
        return self._logits(sum(place.wanted for place in places))

    def _logits(self, rows: int) -> Logits:
        if rows == 0:
            return np.empty((0, self._vocab_size), np.float32)
        return np.ctypeslib.as_array(self._api.llama_get_logits(self._context), (rows, self._vocab_size))

    def close(self) -> None:
        self._api.llama_batch_free(self._batch)
        self._api.llama_free(self._context)
