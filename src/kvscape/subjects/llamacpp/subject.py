"""llama.cpp as a subject: the same design point, prompts and measures as kvscape's own engine."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kvscape.analysis.cpu import default_threads
from kvscape.analysis.memory import Memory
from kvscape.config import DesignPoint, ModelConfig
from kvscape.errors import ConfigError, WeightsError
from kvscape.subjects.llamacpp.context import Context, Logits, Place
from kvscape.subjects.llamacpp.library import PACKAGE, Library, find_library, package_version
from kvscape.subjects.llamacpp.memory import measured_memory, predict
from kvscape.subjects.llamacpp.model_file import ModelFile, find_model_file
from kvscape.subjects.llamacpp.names import check_point
from kvscape.subjects.llamacpp.vocabulary import Vocabulary
from kvscape.subjects.subject import Token

_ROWS = 64


def load_llamacpp(point: DesignPoint, jit: str = "on", model_lib: Path | None = None) -> "LlamaCppSubject":
    """Find or make the point's file and load it; raise ConfigError for what llama.cpp does not have."""
    check_point(point)
    if model_lib is not None:
        raise ConfigError("llamacpp has no model_lib", "it runs no compiled library", "leave --model-lib out")
    return LlamaCppSubject(find_library(), find_model_file(point.build), point)


class LlamaCppSubject:
    """A loaded model, with a context for generating or for scoring, whichever was asked for last.

    Scoring wants all rows of logits, whose buffers a context that generates should not pay for.
    """

    def __init__(self, library: Library, file: ModelFile, point: DesignPoint) -> None:
        self._library, self._file, self._point = library, file, point
        library.log.clear()
        self._model = library.api.llama_model_load_from_file(
            os.fsencode(file.path), library.api.llama_model_default_params()
        )
        if not self._model:
            raise WeightsError(f"llama.cpp cannot load {file.path}", library.log.error, "give another file")
        self._vocabulary = Vocabulary(library.api, self._model)
        self._logit_rows = point.engine.max_batch_size
        self._context = self._new_context()

    def _new_context(self) -> Context:
        threads = self._point.threads or default_threads()
        return Context(self._library, self._model, self._point.engine, threads, self._logit_rows)

    def _with_rows(self, rows: int) -> Context:
        """The context, made again where it was made for another number of rows of logits."""
        if rows != self._logit_rows:
            self._context.close()
            self._logit_rows = rows
            self._context = self._new_context()
        self._context.clear()
        return self._context

    @property
    def model(self) -> ModelConfig:
        return self._file.model

    @property
    def memory(self) -> Memory:
        return measured_memory(self._context.log, self.model, self._point.engine, self._weights_bytes)

    @property
    def _weights_bytes(self) -> int:
        return int(self._library.api.llama_model_size(self._model))

    @property
    def predicted_memory(self) -> Memory:
        return predict(self.model, self._point.engine, self._file.weights_bytes)

    @property
    def bits_per_weight(self) -> float:
        return 8 * self._weights_bytes / int(self._library.api.llama_model_n_params(self._model))

    @property
    def build_key(self) -> str:
        return f"{self._file.key} {PACKAGE} {package_version()} {' '.join(self._library.features)}"

    @property
    def kernels(self) -> tuple[str, ...]:
        """llama.cpp does not name its kernels: what it was compiled with stands for them."""
        return ("llama.cpp", *self._library.features)

    @property
    def ordinary_token_ids(self) -> Sequence[int]:
        return self._vocabulary.ordinary_token_ids

    @property
    def leading_token_id(self) -> int | None:
        return self._vocabulary.leading_token_id

    def encode(self, text: str) -> list[int]:
        return self._vocabulary.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self._vocabulary.decode(token_ids)

    def token_bytes(self, token_id: int) -> bytes:
        return self._vocabulary.token_bytes(token_id)

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Iterator[list[Token]]:
        context = self._with_rows(self._point.engine.max_batch_size)
        last: list[int] = []
        for chunk in _chunks(_places(prompts), context.max_tokens):
            found = _greedy(context.decode(chunk))
            ended = [place.sequence for place in chunk if place.wanted]
            last += found
            yield [Token(sequence, token) for sequence, token in zip(ended, found, strict=True)]
        for step in range(max_tokens - 1):
            places = [Place(token, len(prompts[s]) + step, s, True) for s, token in enumerate(last)]
            last = _greedy(context.decode(places))
            yield [Token(sequence, token) for sequence, token in enumerate(last)]

    def score(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        return np.concatenate(list(self.score_chunks(token_ids)))

    def score_chunks(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        first = 1
        for logits in self.distributions(token_ids):
            yield _logprobs(logits, token_ids[first : first + len(logits)])
            first += len(logits)

    def distributions(self, token_ids: Sequence[int]) -> Iterator[Logits]:
        context = self._with_rows(max(self._point.engine.prefill_chunk_size, self._point.engine.max_batch_size))
        places = [Place(token, position, 0, True) for position, token in enumerate(token_ids[:-1])]
        for chunk in _chunks(places, context.max_tokens):
            yield context.decode(chunk)

    def close(self) -> None:
        self._context.close()
        self._library.api.llama_model_free(self._model)


def _places(prompts: Sequence[Sequence[int]]) -> list[Place]:
    """All prompts one behind the other; of each the last token's logits are wanted."""
    return [
        Place(token, position, sequence, position + 1 == len(prompt))
        for sequence, prompt in enumerate(prompts)
        for position, token in enumerate(prompt)
    ]


def _chunks(places: Sequence[Place], size: int) -> Iterator[Sequence[Place]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _greedy(logits: Logits) -> list[int]:
    return [int(token) for token in logits.argmax(axis=1)] if len(logits) else []


def _logprobs(logits: Logits, targets: Sequence[int]) -> NDArray[np.float32]:
    """Log softmax of each row at its target; some rows at a time, since a row is as long as the vocabulary."""
    parts = []
    for start in range(0, len(targets), _ROWS):
        rows, columns = logits[start : start + _ROWS], targets[start : start + _ROWS]
        shifted = rows - rows.max(axis=1, keepdims=True)
        total = np.exp(shifted).sum(axis=1, dtype=np.float64)
        parts.append(shifted[np.arange(len(columns)), columns] - np.log(total))
    return np.concatenate(parts).astype(np.float32)
