"""An MLC-LLM folder as a source of weights: mlc-chat-config.json, a tensor cache, tokenizer.json."""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from kvscape.config import ModelConfig
from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.models.registry import check_model
from kvscape.quantization.format import FORMATS, Format
from kvscape.quantization.ggml import find_ggml_type
from kvscape.tokenizer.conversation import Conversation
from kvscape.weights.canonical import canonical_shapes
from kvscape.weights.codes_tensor import Codes, CodesTensor
from kvscape.weights.file_rows import FileRows
from kvscape.weights.ggml_tensor import GgmlTensor, Rows
from kvscape.weights.mlc_config import FILE, QUANTIZATIONS, hf_words
from kvscape.weights.mlc_names import mlc_parts
from kvscape.weights.readers.folder import ModelFolder
from kvscape.weights.readers.hf_shape import model_config
from kvscape.weights.readers.hf_texts import TEXT_FILES, Texts
from kvscape.weights.readers.mlc_tensors import check_tensors, stored_names
from kvscape.weights.readers.tensor_cache import CachedTensor, read_cache, table_name
from kvscape.weights.source import SourceTensor

_HEAD = "lm_head"
_KINDS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def read_chat_config(folder: ModelFolder) -> tuple[dict[str, Any], Format]:
    """Return what mlc-chat-config.json says and the format of its quantized tensors.

    Raises UnsupportedModelError for a model or a quantization that cannot run.
    """
    config = folder.json(FILE)
    check_model(model_config(hf_words(config, tied=True), str(folder.path / FILE)))
    return config, _format(config.get("quantization"), folder)


def _format(name: Any, folder: ModelFolder) -> Format:
    known = [known for known, fmt in QUANTIZATIONS.items() if fmt in FORMATS]
    if name in known:
        return FORMATS[QUANTIZATIONS[name]]
    why = "its codes lie column by column" if str(name).endswith("_0") else f"known are {', '.join(known)}"
    raise UnsupportedModelError(f"{folder.path}: quantization {name!a} is not supported", why, "use q4f16_1")


class MlcSource:
    """The weights, shape and tokenizer of one folder: a ``Source``. Codes are kept bit for bit.

    Raises UnsupportedModelError for what is not implemented, before it looks at any weights, and WeightsError for
    a folder that is damaged or incomplete.
    """

    def __init__(self, path: Path) -> None:
        self.folder = ModelFolder(path)
        self._chat_config, self._quantized = read_chat_config(self.folder)
        self._texts = Texts(self.folder)
        self._cache = read_cache(self.folder)
        self.conversation = Conversation.of(self._chat_config.get("conv_template"))
        self.config = self._config()
        self._check()

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def sha256(self) -> str:
        """A hash of the texts and the table, which has the files' md5sums: 4 GB need not be read to know them."""
        table = table_name(self.folder)
        names = [*TEXT_FILES, FILE, *([table] if table else [])]
        if any(shard.md5 is None for shard in self._cache.shards):
            names += [str(shard.path.relative_to(self.folder.path)) for shard in self._cache.shards]
        return hashlib.sha256(f"mlc\n{self.folder.sha256(names)}".encode()).hexdigest()

    @property
    def nbytes(self) -> int:
        return sum(shard.nbytes for shard in self._cache.shards)

    @property
    def tokenizer_json(self) -> str:
        return self._texts.tokenizer_json

    @property
    def chat_template(self) -> str | None:
        """The folder's own, else what its ``conv_template`` comes to."""
        return self._texts.chat_template or (self.conversation.jinja() if self.conversation else None)

    def stream(self) -> Iterator[tuple[str, SourceTensor]]:
        """Yield every tensor once; the files' md5sums are checked first."""
        self._cache.verify()
        for name, shape in canonical_shapes(self.config).items():
            parts = [stored_names(self._cache.tensors, part) for part, _ in mlc_parts(self.config, name, shape[0])]
            if all("weight" in stored for stored in parts):
                yield name, GgmlTensor(shape, [_rows(self._cache.tensors[stored["weight"]]) for stored in parts])
            else:
                yield name, CodesTensor(shape, self._quantized, [self._codes(stored) for stored in parts])

    def _codes(self, stored: dict[str, str]) -> Codes:
        words, scales = (self._cache.tensors[stored[part]] for part in ("q_weight", "q_scale"))
        return Codes(_file_rows(words), _rows(scales))

    def _config(self) -> ModelConfig:
        tied = not any(name.startswith(f"{_HEAD}.") for name in self._cache.tensors)
        where, words = str(self.folder.path / FILE), hf_words(self._chat_config, tied)
        vocab_size = model_config(words, where).vocab_size
        stops = list(self.conversation.stop_ids(self._texts.token_id)) if self.conversation else []
        # Where nothing is known MLC writes 2 here: the template's tokens come first.
        ends = self._texts.eos_token_ids(stops or self._chat_config.get("eos_token_id"))
        return model_config(words, where, self._first_token(), [token for token in ends if token < vocab_size])

    def _first_token(self) -> int | None:
        added = self._texts.bos_token_id(self._chat_config.get("bos_token_id"))
        prefix = self.conversation.system_prefix_token_ids if self.conversation else ()
        return prefix[0] if added is None and prefix else added

    def _check(self) -> None:
        if self.config.num_hidden_layers > len(self._cache.tensors):
            why = f"{self.config.num_hidden_layers} layers, {len(self._cache.tensors)} tensors"
            raise WeightsError(f"{self.folder.path} is incomplete", why, "download it again")
        check_tensors(self._cache.tensors, self.config, self._quantized)


def _rows(tensor: CachedTensor) -> Rows:
    return Rows(_file_rows(tensor), find_ggml_type(_KINDS[tensor.dtype]))


def _file_rows(tensor: CachedTensor) -> FileRows:
    rows = tensor.shape[0]
    return FileRows(tensor.path, tensor.offset, (rows, tensor.nbytes // rows))
