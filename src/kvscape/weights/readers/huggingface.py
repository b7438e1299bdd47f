"""A Hugging Face folder as a source of weights: config.json, safetensors, tokenizer.json."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from kvscape.config import ModelConfig
from kvscape.errors import WeightsError
from kvscape.models.registry import check_model
from kvscape.weights.ggml_tensor import GgmlTensor
from kvscape.weights.hf_mapping import hf_parts, is_unread, norm_offset, text_name
from kvscape.weights.mapping import check_parts
from kvscape.weights.offset_tensor import OffsetTensor
from kvscape.weights.readers.folder import ModelFolder
from kvscape.weights.readers.hf_shape import model_config
from kvscape.weights.readers.hf_texts import TEXT_FILES, Texts
from kvscape.weights.readers.safetensors_header import SafeTensor
from kvscape.weights.readers.shards import INDEX, check_type, read_shards, shard_names, tensor_rows
from kvscape.weights.source import SourceTensor

CONFIG = "config.json"


def read_shape(folder: ModelFolder) -> dict[str, Any]:
    """Return what config.json says; raise UnsupportedModelError for a model that cannot run."""
    config = folder.json(CONFIG)
    check_model(model_config(config, str(folder.path / CONFIG)))
    return config


class HuggingFaceSource:
    """The weights, shape and tokenizer of one folder: a ``Source``.

    Raises UnsupportedModelError for what is not implemented, before it looks at any weights, and WeightsError for
    a folder that is damaged or incomplete.
    """

    def __init__(self, path: Path) -> None:
        self.folder = ModelFolder(path)
        config = read_shape(self.folder)
        self._pictures = config.get("model_type") == "gemma3"
        self._texts = Texts(self.folder)
        self.config = self._config(config)
        self._tensors = self._read()

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def sha256(self) -> str:
        return self.folder.sha256([*TEXT_FILES, INDEX, *shard_names(self.folder)])

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._tensors.values())

    @property
    def tokenizer_json(self) -> str:
        return self._texts.tokenizer_json

    @property
    def chat_template(self) -> str | None:
        return self._texts.chat_template

    def stream(self) -> Iterator[tuple[str, SourceTensor]]:
        for name, parts in hf_parts(self.config).items():
            rows = [tensor_rows(self._tensors[part.name]) for part in parts]
            tensor = GgmlTensor((sum(map(len, rows)), *parts[0].shape[1:]), rows)
            offset = norm_offset(self.config, name)
            yield name, OffsetTensor(tensor, offset) if offset else tensor

    def _config(self, config: dict[str, Any]) -> ModelConfig:
        """The shape with its special tokens, of which generation_config.json has the last word."""
        inner = config.get("text_config") if self._pictures else None
        named = [self.folder.optional_json("generation_config.json"), config, inner if isinstance(inner, dict) else {}]
        bos = next((entry["bos_token_id"] for entry in named if entry.get("bos_token_id") is not None), None)
        ends = self._texts.eos_token_ids(*(entry.get("eos_token_id") for entry in named))
        return model_config(config, str(self.folder.path / CONFIG), self._texts.bos_token_id(bos), ends)

    def _read(self) -> dict[str, SafeTensor]:
        """The tensors by the text model's names, all that it needs and nothing else."""
        found = {n: t for n, t in read_shards(self.folder).items() if not is_unread(n, self.config, self._pictures)}
        tensors = {text_name(name) if self._pictures else name: tensor for name, tensor in found.items()}
        if len(tensors) < len(found):
            raise WeightsError(f"{self.folder.path} is damaged", "it names a tensor twice", "download it again")
        if self.config.num_hidden_layers > len(tensors):
            why = f"{self.config.num_hidden_layers} layers, {len(tensors)} tensors"
            raise WeightsError(f"{self.folder.path} is incomplete", why, "download it again")
        parts = [part for group in hf_parts(self.config).values() for part in group]
        check_parts(parts, {name: tensor.shape for name, tensor in tensors.items()})
        for part in parts:
            check_type(part.name, tensors[part.name])
        return tensors
