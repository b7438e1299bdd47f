"""A subject of exact numbers: a step takes one second for a prompt and a quarter for one token of every stream."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kvscape.analysis.memory import Memory
from kvscape.config import ModelConfig
from kvscape.subjects import Token

MODEL = ModelConfig(
    model_type="llama",
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    vocab_size=100,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    max_position_embeddings=2048,
    tie_word_embeddings=True,
)


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeSubject:
    model = MODEL
    memory = Memory(weights_bytes=100_000, kv_cache_bytes=2000, kv_bytes_per_token=10, workspace_bytes=300)
    predicted_memory = Memory(weights_bytes=100_000, kv_cache_bytes=2000, kv_bytes_per_token=10, workspace_bytes=400)
    bits_per_weight = 5.0
    kernels = ("q4af16_1_gemv",)
    build_key = "made up"
    ordinary_token_ids: Sequence[int] = range(10, 90)
    leading_token_id: int | None = None

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.runs: list[list[list[int]]] = []

    def encode(self, text: str) -> list[int]:
        return [ord(character) % 100 for character in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "ab" * len(token_ids)

    def token_bytes(self, token_id: int) -> bytes:
        return b"ab"

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Iterator[list[Token]]:
        self.runs.append([list(prompt) for prompt in prompts])
        for request in range(len(prompts)):
            self.clock.now += 1.0
            yield [Token(request, 50)]
        for _ in range(max_tokens - 1):
            self.clock.now += 0.25
            yield [Token(request, 50) for request in range(len(prompts))]

    def score(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        return np.full(len(token_ids) - 1, -1.0, np.float32)

    def score_chunks(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        yield self.score(token_ids)

    def distributions(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        yield np.zeros((len(token_ids) - 1, MODEL.vocab_size), np.float32)

    def close(self) -> None:
        pass
