"""The tokenizer of a GGUF file as a ``tokenizer.json``.

Source: GGUF's keys (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from kvscape.errors import UnsupportedModelError
from kvscape.tokenizer.gguf_bpe import byte_level_bpe
from kvscape.tokenizer.gguf_spm import sentencepiece_bpe
from kvscape.tokenizer.gguf_vocabulary import Vocabulary

# GGUF calls SentencePiece's kind of BPE llama; Gemma's is the same.
_MODELS: Mapping[str, Callable[[Vocabulary], dict[str, Any]]] = MappingProxyType(
    {"gpt2": byte_level_bpe, "llama": sentencepiece_bpe, "gemma": sentencepiece_bpe}
)


def gguf_tokenizer(metadata: Mapping[str, Any]) -> str:
    """Return the ``tokenizer.json`` of a GGUF file's metadata.

    Raises UnsupportedModelError for another tokenizer than byte-level or SentencePiece's BPE, or one that splits text
    in a way not known here, and WeightsError for metadata that contradicts itself.
    """
    name = metadata.get("tokenizer.ggml.model")
    if not isinstance(name, str) or name not in _MODELS:
        known = "gpt2 (byte-level BPE) and llama (SentencePiece's BPE) are"
        raise UnsupportedModelError(f"tokenizer {name!r} is not supported", known, "use a model that has one of them")
    vocabulary = Vocabulary.read(metadata)
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": vocabulary.added_tokens,
        "post_processor": None,
        **_MODELS[name](vocabulary),
    }
    return json.dumps(document, ensure_ascii=False)
