"""Perplexity over HTTP: log-probabilities of a prompt, from a server that echoes it with them."""

import asyncio
import json
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvscape.artifact import Artifact
from kvscape.config import DesignPoint, ModelConfig
from kvscape.errors import EndpointError
from kvscape.hub import Progress, resolve, silent
from kvscape.subjects.endpoint.client import API_KEY, base_url, key_headers, served_model
from kvscape.subjects.endpoint.event import error_words
from kvscape.subjects.endpoint.http import Server
from kvscape.tokenizer import Tokenizer
from kvscape.weights.sources import check_weightless, open_source

_TIMEOUT_S = 600.0
_SAMPLE = "The tokens of this sentence must be the same here and there, 12 of 345."


def load_scores(point: DesignPoint, progress: Progress = silent) -> "EndpointScores":
    """Ask a server for a short text's scores, and hold its tokens against those of the point's model.

    Raises EndpointError where it gives none, or where its tokenizer is another one.
    """
    scores = EndpointScores(point, served_model(point), *find_tokenizer(point.build.model, progress))
    scores.check()
    return scores


def find_tokenizer(model: str, progress: Progress = silent) -> tuple[Tokenizer, ModelConfig]:
    """The tokenizer of a model that kvscape can read, and its shape; downloaded where it is not there."""
    path = resolve(model, progress, check_weightless)
    if (path / "kvscape.json").exists():
        artifact = Artifact(path)
        shape = artifact.manifest.model
        return Tokenizer.from_file(artifact.tokenizer, shape.bos_token_id), shape
    source = open_source(path)
    return Tokenizer.from_json(source.tokenizer_json, source.config.bos_token_id), source.config


class EndpointScores:
    """A server as ``quality`` sees it; the text is cut by a tokenizer that is here."""

    bits_per_weight: float | None = None

    def __init__(self, point: DesignPoint, served: str, tokenizer: Tokenizer, model: ModelConfig) -> None:
        self._point, self._served, self._tokenizer, self._model = point, served, tokenizer, model
        self._headers = key_headers(os.environ.get(API_KEY))

    @property
    def model(self) -> ModelConfig:
        return self._model

    @property
    def build_key(self) -> str:
        return f"{self._point.server.endpoint} {self._served}"

    @property
    def leading_token_id(self) -> int | None:
        return self._tokenizer.bos_token_id

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(token_ids)

    def token_bytes(self, token_id: int) -> bytes:
        return self._tokenizer.token_bytes(token_id)

    def check(self) -> None:
        """A server puts a leading token before a text that is no list of tokens, or does not."""
        own, found = len(self.encode(_SAMPLE)), len(self._logprobs(_SAMPLE))
        if found not in (own, own + (self.leading_token_id is not None)):
            why = f"a sentence has {own} tokens here and {found} there"
            do = "name the model that the server has with --model"
            raise EndpointError("the endpoint's tokenizer is another one", why, do)

    def score(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        found = self._logprobs([int(token) for token in token_ids])[1 : len(token_ids)]
        return np.array([-math.inf if value is None else value for value in found], np.float32)

    def score_chunks(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        yield self.score(token_ids)

    def _logprobs(self, prompt: str | list[int]) -> list[float | None]:
        """Of each token of a prompt, the first one's being None; raise EndpointError where there are none."""
        asked = {"model": self._served, "prompt": prompt, "max_tokens": 0, "echo": True, "logprobs": 1}
        status, body = asyncio.run(_post(Server(base_url(self._point.server.endpoint), self._headers), asked))
        if status != 200:
            raise EndpointError(f"the endpoint gave {status}", error_words(body), "see what its /v1/completions can")
        try:
            found: list[float | None] = json.loads(body)["choices"][0]["logprobs"]["token_logprobs"]
            whole = len(found) >= (1 if isinstance(prompt, str) else len(prompt)) and found[0] is None
            whole = whole and not any(value is not None and math.isnan(value) for value in found)
        except (ValueError, KeyError, TypeError, IndexError):
            whole = False
        if not whole:
            why = "its /v1/completions does not echo a prompt with logprobs"
            raise EndpointError("the endpoint gives no log-probabilities of a prompt", why, "score the model elsewhere")
        return found

    def close(self) -> None:
        """Every request has closed its own connection."""


async def _post(server: Server, asked: dict[str, Any]) -> tuple[int, bytes]:
    try:
        message = json.dumps(asked).encode()
        async with asyncio.timeout(_TIMEOUT_S), server.answer("POST", "/completions", message) as response:
            return response.status, await response.body()
    except (OSError, EOFError) as error:
        why = str(error) or f"nothing came within {_TIMEOUT_S:.0f} s"
        raise EndpointError("the endpoint does not answer", why, "look at the server's log") from None
    finally:
        server.close()
