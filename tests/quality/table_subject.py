"""A subject of a few lines: the logits after a token are a row of a table; chunks of them are written over."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from made_logits import made_logits
from numpy.typing import NDArray

from kvscape.config import ModelConfig

MODEL = ModelConfig(
    model_type="llama",
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    vocab_size=60,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    max_position_embeddings=2048,
    tie_word_embeddings=True,
)


@dataclass
class TableSubject:
    """``noise`` is added to the logits; ``letters`` is what the tokens are."""

    noise: float = 0.0
    chunk: int = 7
    vocab_size: int = 60
    letters: str = "x"
    build_key: str = "table"
    bits_per_weight: float = 32.0

    @property
    def model(self) -> ModelConfig:
        return replace(MODEL, vocab_size=self.vocab_size)

    @property
    def table(self) -> NDArray[np.float32]:
        rows = made_logits("ordinary", 1, self.vocab_size, self.vocab_size)
        return rows + np.float32(self.noise) * made_logits("ordinary", 2, self.vocab_size, self.vocab_size)

    leading_token_id: int | None = None

    def encode(self, text: str) -> list[int]:
        """One token for each character."""
        return [ord(character) % self.vocab_size for character in text]

    def token_bytes(self, token_id: int) -> bytes:
        return b"%s%d" % (self.letters.encode(), token_id)

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(self.token_bytes(token).decode() for token in token_ids)

    def logits(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Of the tokens 1 to n - 1: [n - 1, vocab_size]."""
        rows: NDArray[np.float32] = self.table[np.asarray(token_ids[:-1])]
        return rows

    def distributions(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        logits = self.logits(token_ids)
        memory = np.empty((self.chunk, self.vocab_size), np.float32)
        for start in range(0, len(logits), self.chunk):
            part = logits[start : start + self.chunk]
            memory[: len(part)] = part
            yield memory[: len(part)]
            memory[:] = np.nan
