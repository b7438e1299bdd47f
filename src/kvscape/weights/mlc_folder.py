"""Write an artefact as MLC-LLM lays a model out, for MLC-LLM and for kvscape itself."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kvscape.artifact import Artifact
from kvscape.artifact.tensor_file import map_tensors
from kvscape.config import ModelConfig
from kvscape.errors import ConfigError
from kvscape.files import write_text, written_folder
from kvscape.quantization.arrays import Array
from kvscape.tokenizer.conversation import NAMED
from kvscape.weights.mlc_config import FILE, QUANTIZATIONS, mlc_model_config
from kvscape.weights.mlc_names import mlc_parts
from kvscape.weights.readers.tensor_cache import TABLES

_SHARD_BYTES = 32 << 20
# What a chat template is called where MLC knows its kind: a text that it holds, and the name.
_TEMPLATES = (
    ("<|start_header_id|>", "llama-3"),
    ("<start_of_turn>", "gemma_instruction"),
    ("<|im_start|>", "chatml"),
    ("<|end|>", "phi-3"),
    ("<<SYS>>", "llama-2"),
    ("[INST]", "mistral_default"),
)


def write_mlc_folder(artifact: Artifact, folder: Path) -> None:
    """Write ``folder``, which appears whole or not at all: codes bit for bit, floats in the quantization's own type.

    Norms, which kvscape keeps in f32, become f16 in a quantization of f16, as MLC-LLM has them. Raises ConfigError for
    weights in formats that MLC-LLM has not.
    """
    quantization = _quantization(artifact)
    with written_folder(folder) as temporary:
        shards = _Shards(temporary)
        for name, array in _arrays(artifact, "float16" if "f16" in quantization else "float32"):
            shards.add(name, array)
        table = {"metadata": {"ParamSize": shards.count}, "records": shards.finish()}
        write_text(temporary / TABLES[0], json.dumps(table, indent=1))
        # MLC-LLM looked for this name until 2025.
        write_text(temporary / TABLES[1], json.dumps(table, indent=1))
        _write_texts(artifact, quantization, temporary)


def _quantization(artifact: Artifact) -> str:
    """MLC's name of the one format that all matrices have."""
    manifest = artifact.manifest
    formats = {info.format for info in manifest.tensors.values() if len(info.shape) > 1}
    names: dict[str, str] = {}
    for name, fmt in QUANTIZATIONS.items():
        names.setdefault(fmt, name)
    if len(formats) > 1 or not formats <= names.keys():
        raise ConfigError(
            f"MLC-LLM has no weights in {' and '.join(sorted(formats))}",
            f"its quantizations are {', '.join(QUANTIZATIONS)}",
            "convert with --quantization q4f16_1, and no other for the embedding",
        )
    return names[formats.pop()]


def _arrays(artifact: Artifact, dtype: str) -> Iterator[tuple[str, Array]]:
    """Yield MLC's arrays one at a time."""
    model, tensors = artifact.manifest.model, map_tensors(artifact.canonical_weights)
    for name, info in artifact.manifest.tensors.items():
        stored = {key.removeprefix(f"{name}."): a for key, a in tensors.items() if _is_of(key, name)}
        start = 0
        for part, rows in mlc_parts(model, name, info.shape[0]):
            for what, array in stored.items():
                kept = array[start : start + rows]
                yield _name(part, what), kept.astype(dtype) if what == "weight" else kept
            start += rows


def _is_of(key: str, name: str) -> bool:
    return key.rpartition(".")[0] == name


def _name(part: str, what: str) -> str:
    return part if part.endswith(".bias") else f"{part}.{what}"


@dataclass
class _Shards:
    """Files of about 32 MB, as TVM makes them; a larger tensor has one of its own."""

    folder: Path
    records: list[dict[str, Any]] = field(default_factory=list)
    count: int = 0
    _open: list[dict[str, Any]] = field(default_factory=list)
    _data: bytearray = field(default_factory=bytearray)

    def add(self, name: str, array: Array) -> None:
        data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        if self._data and len(self._data) + len(data) > _SHARD_BYTES:
            self._close()
        entry = {"name": name, "shape": list(array.shape), "dtype": str(array.dtype), "format": "raw"}
        self._open.append({**entry, "nbytes": len(data), "byteOffset": len(self._data)})
        self._data += data
        self.count += 1

    def finish(self) -> list[dict[str, Any]]:
        self._close()
        return self.records

    def _close(self) -> None:
        if not self._open:
            return
        path = f"params_shard_{len(self.records)}.bin"
        (self.folder / path).write_bytes(self._data)
        facts = {"dataPath": path, "format": "raw-shard", "nbytes": len(self._data), "records": self._open}
        self.records.append({**facts, "md5sum": hashlib.md5(self._data, usedforsecurity=False).hexdigest()})
        self._open, self._data = [], bytearray()


def _write_texts(artifact: Artifact, quantization: str, folder: Path) -> None:
    shutil.copyfile(artifact.tokenizer, folder / "tokenizer.json")
    template = artifact.chat_template.read_text(encoding="utf-8") if artifact.chat_template.exists() else None
    model = artifact.manifest.model
    tokenizer = {"add_bos_token": model.bos_token_id is not None}
    write_text(
        folder / "tokenizer_config.json", json.dumps(tokenizer | ({"chat_template": template} if template else {}))
    )
    write_text(folder / FILE, json.dumps(_chat_config(model, quantization, template), indent=2) + "\n")


def _chat_config(model: ModelConfig, quantization: str, template: str | None) -> dict[str, Any]:
    config = mlc_model_config(model)
    ends = list(model.eos_token_ids)
    named = next((name for text, name in _TEMPLATES if template and text in template), "LM")
    return {
        "version": "0.1.0",
        "model_type": model.model_type,
        "quantization": quantization,
        "model_config": config,
        "vocab_size": model.vocab_size,
        **{n: config[n] for n in ("context_window_size", "sliding_window_size", "prefill_chunk_size")},
        "attention_sink_size": -1,
        "tensor_parallel_shards": 1,
        "tokenizer_files": ["tokenizer.json", "tokenizer_config.json"],
        "conv_template": NAMED[named].to_json(named, model.bos_token_id, ends),
        "bos_token_id": model.bos_token_id,
        "eos_token_id": ends[0] if len(ends) == 1 else ends,
    }
