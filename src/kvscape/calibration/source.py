"""A source of weights whose calibrated tensors are stored already, as codes: ``convert`` keeps these."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kvscape.config import ModelConfig
from kvscape.quantization.arrays import F32, Array
from kvscape.quantization.format import Format
from kvscape.weights.source import Source, SourceTensor


@dataclass(frozen=True)
class CalibratedTensor:
    """``tensor``'s values with the codes that stand for them: a ``SourceTensor``."""

    tensor: SourceTensor
    format: Format
    arrays: Mapping[str, Array]
    is_exact: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    def kept(self) -> dict[str, Array]:
        return dict(self.arrays)

    def values(self) -> F32:
        return self.tensor.values()

    def part(self, rows: slice) -> "CalibratedTensor":
        arrays = {name: array[rows] for name, array in self.arrays.items()}
        return CalibratedTensor(self.tensor.part(rows), self.format, arrays)


@dataclass(frozen=True)
class CalibratedSource:
    """``source`` with some of its tensors calibrated: a ``Source``."""

    source: Source
    calibrated: Mapping[str, CalibratedTensor]

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def sha256(self) -> str:
        return self.source.sha256

    @property
    def nbytes(self) -> int:
        return self.source.nbytes

    @property
    def config(self) -> ModelConfig:
        return self.source.config

    @property
    def tokenizer_json(self) -> str:
        return self.source.tokenizer_json

    @property
    def chat_template(self) -> str | None:
        return self.source.chat_template

    def stream(self) -> Iterator[tuple[str, SourceTensor]]:
        for name, tensor in self.source.stream():
            yield name, self.calibrated.get(name, tensor)
