"""What a file of weights must give, whatever its format."""

from collections.abc import Iterator
from typing import Protocol

from kvscape.config import ModelConfig
from kvscape.quantization.arrays import F32, Array
from kvscape.quantization.format import Format


class SourceTensor(Protocol):
    """One tensor of a source, read when asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, K] of a matrix, [H] of a norm."""

    @property
    def format(self) -> Format:
        """The format that keeps what the file holds."""

    @property
    def is_exact(self) -> bool:
        """Whether ``kept`` changes no value."""

    def kept(self) -> dict[str, Array]:
        """The stored arrays in ``format``: codes are kept, not rounded again."""

    def values(self) -> F32:
        """What the file's tensor stands for."""

    def part(self, rows: slice) -> "SourceTensor":
        """Those rows, read now and in memory: a whole tensor need never be. Their format is that of the whole."""


class Source(Protocol):
    """A model's weights, shape and tokenizer, under MLC-LLM's tensor names."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def nbytes(self) -> int:
        """Bytes of its files of weights."""

    @property
    def config(self) -> ModelConfig: ...
    @property
    def tokenizer_json(self) -> str: ...
    @property
    def chat_template(self) -> str | None: ...
    def stream(self) -> Iterator[tuple[str, SourceTensor]]:
        """Yield every tensor once, by MLC's name; raise WeightsError listing what is missing or left over."""
