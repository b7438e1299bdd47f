"""Hugging Face transformers as a subject: the reference implementation under the same prompts and measures."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvscape.analysis.cpu import default_threads
from kvscape.analysis.memory import Memory
from kvscape.config import DesignPoint, ModelConfig
from kvscape.errors import CapacityError, ConfigError
from kvscape.subjects.subject import Token
from kvscape.subjects.transformers.cache import argument_name, cache_bytes, new_cache
from kvscape.subjects.transformers.library import Library, cpu_capability, find_library, library_key, torch_device
from kvscape.subjects.transformers.memory import bits_per_weight, kv_bytes_per_token, predict, weights_bytes
from kvscape.subjects.transformers.model import load_model
from kvscape.subjects.transformers.names import check_point
from kvscape.subjects.transformers.rounding import scales_bytes
from kvscape.subjects.transformers.source import find_source, weights_key
from kvscape.tokenizer import Tokenizer
from kvscape.weights.source import Source

_KV_DTYPES = {"f16": "float16", "f32": "float32"}


def load_transformers(point: DesignPoint, jit: str = "on", model_lib: Path | None = None) -> "TransformersSubject":
    """Load the point's model; raise ConfigError for what transformers does not have."""
    check_point(point)
    if model_lib is not None:
        raise ConfigError("transformers has no model_lib", "it runs no compiled library", "leave --model-lib out")
    library, source = find_library(), find_source(point.build)
    return TransformersSubject(library, source, load_model(source, point.build), point)


class TransformersSubject:
    """A loaded model, with kvscape's own tokenizer, so that token ids are the same.

    torch's number of threads is the process's; ``close`` puts it back.
    """

    def __init__(self, library: Library, source: Source, model: Any, point: DesignPoint) -> None:
        self._torch, self._model, self._point, self._shape = library.torch, model, point, source.config
        self._weights_key = weights_key(source, point.build)
        self._tokenizer = Tokenizer.from_json(source.tokenizer_json, source.config.bos_token_id)
        self._kv_dtype = getattr(library.torch, _KV_DTYPES[point.engine.kv_dtype])
        self._cache_name, self._cache_bytes = argument_name(model), 0
        self._threads_before = library.torch.get_num_threads()
        library.torch.set_num_threads(point.threads or default_threads())

    @property
    def model(self) -> ModelConfig:
        return self._shape

    @property
    def memory(self) -> Memory:
        """Weights as they are held, and the largest cache of the runs so far: it grows with the tokens it holds."""
        predicted = self.predicted_memory
        per_token = kv_bytes_per_token(self.model, self._point.engine.kv_dtype)
        workspace, runtime = predicted.workspace_bytes, predicted.runtime_bytes
        return Memory(self._weights_bytes, self._cache_bytes, per_token, workspace, runtime)

    @property
    def _weights_bytes(self) -> int:
        return sum(int(parameter.nbytes) for parameter in self._model.parameters()) + scales_bytes(self._model)

    @property
    def predicted_memory(self) -> Memory:
        return predict(self.model, self._point.engine, weights_bytes(self.model, self._point.build))

    @property
    def bits_per_weight(self) -> float:
        return bits_per_weight(self.model, self._point.build)

    @property
    def build_key(self) -> str:
        return f"{self._weights_key} {library_key()} {self._point.build.device}"

    @property
    def kernels(self) -> tuple[str, ...]:
        """torch does not name its kernels: its instruction set and the attention stand for them."""
        return ("torch", cpu_capability(), f"attention {self._model.config._attn_implementation}")

    @cached_property
    def ordinary_token_ids(self) -> Sequence[int]:
        return [token for token in range(self.model.vocab_size) if self._tokenizer.token_bytes(token)]

    @property
    def leading_token_id(self) -> int | None:
        return self._tokenizer.bos_token_id

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(token_ids)

    def token_bytes(self, token_id: int) -> bytes:
        return self._tokenizer.token_bytes(token_id)

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Iterator[list[Token]]:
        """Shorter prompts are filled on their left, where no query looks; a step takes as many columns as fit."""
        tokens, seen = self._filled(prompts)
        kv_cache = new_cache(self._model, self._kv_dtype)
        width = max(1, self._point.engine.prefill_chunk_size // len(prompts))
        last = None
        for start in range(0, tokens.shape[1], width):
            last = self._greedy(tokens[:, start : start + width], seen[:, : start + width], kv_cache)
            if start + width < tokens.shape[1]:
                yield []
        for _ in range(max_tokens - 1):
            yield self._tokens(last)
            seen = self._torch.nn.functional.pad(seen, (0, 1), value=1)
            last = self._greedy(last, seen, kv_cache)
        self._cache_bytes = max(self._cache_bytes, cache_bytes(kv_cache))
        yield self._tokens(last)

    def _filled(self, prompts: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        """All prompts at the length of the longest, and where they are tokens."""
        longest = max(map(len, prompts))
        rows = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        seen = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        return self._tensor(rows), self._tensor(seen)

    def _greedy(self, tokens: Any, seen: Any, kv_cache: Any) -> Any:
        """Compute some columns; return the likeliest next token of each row, [batch, 1]."""
        positions = (seen.cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        mask = None if bool(seen.all()) else seen
        logits = self._forward(tokens, kv_cache, attention_mask=mask, position_ids=positions, logits_to_keep=1)
        return logits[:, -1].argmax(-1, keepdim=True)

    def _tokens(self, last: Any) -> list[Token]:
        return [Token(request, int(token)) for request, token in enumerate(last[:, 0].tolist())]

    def score(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        return np.concatenate(list(self.score_chunks(token_ids)))

    def score_chunks(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        first = 1
        for logits in self._logits(token_ids):
            targets = self._tensor(token_ids[first : first + len(logits)])[:, None]
            yield self._torch.log_softmax(logits.float(), -1).gather(1, targets)[:, 0].cpu().numpy()
            first += len(logits)

    def distributions(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        return (logits.float().cpu().numpy() for logits in self._logits(token_ids))

    def _logits(self, token_ids: Sequence[int]) -> Iterator[Any]:
        """Logits of each token after the first, [rows, vocab] for each chunk."""
        if len(token_ids) > (longest := self._point.engine.context_window_size):
            why = f"context_window_size is {longest}"
            raise CapacityError(f"{len(token_ids)} tokens to score", why, "use a larger context")
        chunk, kv_cache = self._point.engine.prefill_chunk_size, new_cache(self._model, self._kv_dtype)
        for start in range(0, len(token_ids) - 1, chunk):
            tokens = self._tensor([token_ids[start : min(start + chunk, len(token_ids) - 1)]])
            yield self._forward(tokens, kv_cache)[0]
        self._cache_bytes = max(self._cache_bytes, cache_bytes(kv_cache))

    def _forward(self, tokens: Any, kv_cache: Any, **options: Any) -> Any:
        with self._torch.inference_mode():
            return self._model(tokens, **{self._cache_name: kv_cache}, use_cache=True, **options).logits

    def _tensor(self, values: Sequence[Any]) -> Any:
        return self._torch.tensor(values, device=torch_device(self._point.build.device))

    def close(self) -> None:
        self._torch.set_num_threads(self._threads_before)
        self._model = None
