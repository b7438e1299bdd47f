"""A GGUF file as a source of weights."""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from kvscape.config import ModelConfig
from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.quantization.ggml import GgmlType, find_ggml_type
from kvscape.tokenizer import gguf_tokenizer
from kvscape.weights.file_rows import FileRows
from kvscape.weights.ggml_tensor import GgmlTensor, Rows
from kvscape.weights.mapping import Part, check_parts, gguf_parts
from kvscape.weights.readers.gguf_config import model_config
from kvscape.weights.readers.gguf_header import GgufTensor, read_header
from kvscape.weights.source import SourceTensor


class GgufSource:
    """The weights, shape and tokenizer of one GGUF file: a ``Source``.

    Raises WeightsError for a damaged or incomplete file, UnsupportedModelError for what is not implemented.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = read_header(path)
        self._check_depth()
        self._parts = gguf_parts(self.config)
        self._check()

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def nbytes(self) -> int:
        return self.path.stat().st_size

    @cached_property
    def sha256(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def config(self) -> ModelConfig:
        tokens = self.header.metadata.get("tokenizer.ggml.tokens")
        if not isinstance(tokens, list) or not tokens:
            raise WeightsError(f"{self.path} has no tokens", "tokenizer.ggml.tokens is missing", "use another file")
        return model_config(self.header.metadata, len(tokens), "output.weight" not in self.header.tensors)

    @cached_property
    def tokenizer_json(self) -> str:
        return gguf_tokenizer(self.header.metadata)

    @property
    def chat_template(self) -> str | None:
        template = self.header.metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    def stream(self) -> Iterator[tuple[str, SourceTensor]]:
        for name, parts in self._parts.items():
            first, *rest = (part.shape for part in parts)
            shape = (first[0] + sum(other[0] for other in rest), *first[1:])
            yield name, GgmlTensor(shape, tuple(self._rows(part) for part in parts))

    def _check_depth(self) -> None:
        """A damaged number of layers must not make a list of billions of names."""
        layers, count = self.config.num_hidden_layers, len(self.header.tensors)
        if layers > count:
            raise WeightsError(f"{self.path} is incomplete", f"{layers} layers, {count} tensors", "download again")

    def _check(self) -> None:
        tensors = self.header.tensors
        check_parts(
            [part for parts in self._parts.values() for part in parts], {n: t.shape for n, t in tensors.items()}
        )
        for tensor in tensors.values():
            _kind(tensor)

    def _rows(self, part: Part) -> Rows:
        tensor = self.header.tensors[part.name]
        kind = _kind(tensor)
        rows = tensor.shape[0] if len(tensor.shape) > 1 else tensor.shape[0] // kind.block_size
        return Rows(FileRows(self.path, tensor.offset, (rows, tensor.nbytes // rows)), kind, part.rotary_heads)


def _kind(tensor: GgufTensor) -> GgmlType:
    try:
        return find_ggml_type(tensor.type_name)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"tensor {tensor.name}: {error.what}", error.why, error.do) from None
