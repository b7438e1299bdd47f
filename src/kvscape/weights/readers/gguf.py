"""A GGUF file, or the parts of one, as a source of weights."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from kvscape.config import ModelConfig
from kvscape.errors import UnsupportedModelError
from kvscape.quantization.ggml import GgmlType, find_ggml_type
from kvscape.tokenizer import gguf_tokenizer, with_tool_use
from kvscape.weights.ggml_tensor import GgmlTensor, Rows
from kvscape.weights.mapping import Part, check_parts, gguf_parts
from kvscape.weights.readers.gguf_config import read_config
from kvscape.weights.readers.gguf_files import open_gguf
from kvscape.weights.readers.gguf_header import GgufTensor
from kvscape.weights.source import SourceTensor


class GgufSource:
    """The weights, shape and tokenizer of one GGUF file, or of one that was split: a ``Source``.

    Raises WeightsError for a damaged or incomplete file, UnsupportedModelError for what is not implemented.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = open_gguf(path)
        self._parts = gguf_parts(self.config)
        self._check()

    @property
    def name(self) -> str:
        return self.header.name

    @property
    def nbytes(self) -> int:
        return sum(path.stat().st_size for path in self.header.paths)

    @property
    def sha256(self) -> str:
        return self.header.sha256

    @cached_property
    def config(self) -> ModelConfig:
        return read_config(self.header)

    @cached_property
    def tokenizer_json(self) -> str:
        return gguf_tokenizer(self.header.metadata)

    @property
    def chat_template(self) -> str | None:
        names = ("tokenizer.chat_template", "tokenizer.chat_template.tool_use")
        default, tool_use = (self.header.metadata.get(name) for name in names)
        if not isinstance(default, str):
            return None
        return with_tool_use(default, tool_use) if isinstance(tool_use, str) else default

    def stream(self) -> Iterator[tuple[str, SourceTensor]]:
        for name, parts in self._parts.items():
            first, *rest = (part.shape for part in parts)
            shape = (first[0] + sum(other[0] for other in rest), *first[1:])
            yield name, GgmlTensor(shape, tuple(self._rows(part) for part in parts))

    def _check(self) -> None:
        tensors = self.header.tensors
        check_parts(
            [part for parts in self._parts.values() for part in parts], {n: t.shape for n, t in tensors.items()}
        )
        for tensor in tensors.values():
            _kind(tensor)

    def _rows(self, part: Part) -> Rows:
        kind = _kind(self.header.tensors[part.name])
        return Rows(self.header.rows(part.name, kind), kind, part.rotary_heads)


def _kind(tensor: GgufTensor) -> GgmlType:
    try:
        return find_ggml_type(tensor.type_name)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"tensor {tensor.name}: {error.what}", error.why, error.do) from None
