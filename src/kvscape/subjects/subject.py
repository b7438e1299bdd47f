"""What can be measured: the one Protocol between the bench and whatever runs the model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kvscape.analysis.memory import Memory
from kvscape.config import ModelConfig


@dataclass(frozen=True)
class Token:
    """One generated token of one of the requests that run together."""

    request: int
    token_id: int


@runtime_checkable
class Serves(Protocol):
    """A subject that also takes requests while others run."""

    def serve(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, asked_s: Sequence[float]
    ) -> Iterator[list[Token]]:
        """As ``generate``, but a request comes so many seconds after the first step is asked for, in rising order."""
        ...


@runtime_checkable
class OnDevice(Protocol):
    """A subject that may run on a device with memory of its own."""

    @property
    def peak_device_bytes(self) -> int | None:
        """The most that this process had of the device's memory; None where that is the host's."""
        ...


class TextSubject(Protocol):
    """What scores texts, wherever it runs."""

    @property
    def model(self) -> ModelConfig:
        """The shape of the model."""
        ...

    @property
    def bits_per_weight(self) -> float | None:
        """None where it is not known."""
        ...

    @property
    def build_key(self) -> str:
        """Names the weights and the code that run, so that what was scored with others is never taken for theirs."""
        ...

    @property
    def leading_token_id(self) -> int | None:
        """The token that this model's tokenizer puts before every text, if it does."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without a leading token."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """What a token adds to the text; a control token adds nothing."""
        ...

    def score_chunks(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """Natural log-probability of each token given those before it, [n - 1], in parts, each when it is computed."""
        ...


class Subject(TextSubject, Protocol):
    """A loaded design point. Loading is the registry's part; ``close`` frees what it holds."""

    @property
    def memory(self) -> Memory:
        """Bytes that are really allocated."""
        ...

    @property
    def predicted_memory(self) -> Memory:
        """Bytes that the arithmetic promised before anything was allocated."""
        ...

    @property
    def bits_per_weight(self) -> float: ...

    @property
    def kernels(self) -> tuple[str, ...]:
        """Names of the kernels that run."""
        ...

    @property
    def ordinary_token_ids(self) -> Sequence[int]:
        """Token ids that are text: no control tokens, nothing that ends a turn."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str: ...

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Iterator[list[Token]]:
        """Run all prompts together, greedily, to exactly ``max_tokens`` tokens each; yield after every step."""
        ...

    def score(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Natural log-probability of each token given those before it, [n - 1]."""
        ...

    def distributions(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """Logits of each token given those before it, chunk by chunk: f32 [rows, vocab_size], n - 1 rows in all.

        Row i of all is the distribution of token i + 1: the rows that ``score`` reads, from the same forward, so there
        is none for what would follow the last token. An array may be a view, valid until the next is asked for.
        """
        ...

    def close(self) -> None: ...
