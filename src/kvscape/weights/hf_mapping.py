"""Hugging Face's tensor names to MLC-LLM's."""

from collections.abc import Iterable

from kvscape.config import ModelConfig
from kvscape.models.registry import find_architecture
from kvscape.weights.canonical import canonical_shapes, joined_rows
from kvscape.weights.mapping import Part

# What the parts of a joined tensor are called.
_SPLIT = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
# Gemma 3's text model within the one that also sees pictures: how its names begin, in transformers 4 and since 4.52.
_TEXT_PREFIXES = {"language_model.model.": "model.", "model.language_model.": "model.", "language_model.": ""}
_PICTURES = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


def hf_parts(config: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Return, for each of MLC's tensors in the model's order, the Hugging Face tensors whose rows it joins."""
    return {name: tuple(_parts(config, name, shape)) for name, shape in canonical_shapes(config).items()}


def _parts(config: ModelConfig, name: str, shape: tuple[int, ...]) -> Iterable[Part]:
    matrix, bias = name.removesuffix(".bias"), name.endswith(".bias")
    ending = "bias" if bias else "weight"
    scope, _, last = matrix.rpartition(".")
    if last not in _SPLIT or find_architecture(config.model_type).joined:
        return [Part(f"{matrix}.{ending}", shape)]
    rows = joined_rows(config)[f"{scope.rpartition('.')[2]}.{last}"]
    return [
        Part(f"{scope}.{part}.{ending}", (count, *shape[1:])) for part, count in zip(_SPLIT[last], rows, strict=True)
    ]


def is_unread(name: str, config: ModelConfig, pictures: bool) -> bool:
    """Whether a file's tensor says nothing that the shape does not: frequencies, a tied head, a vision model."""
    if name.endswith("rotary_emb.inv_freq") or (config.tie_word_embeddings and text_name(name) == "lm_head.weight"):
        return True
    return pictures and name.startswith(_PICTURES)


def text_name(name: str) -> str:
    """Return a tensor's name as it is in the text model alone."""
    for prefix, plain in _TEXT_PREFIXES.items():
        if name.startswith(prefix):
            return plain + name.removeprefix(prefix)
    return name


def norm_offset(config: ModelConfig, name: str) -> float:
    """Return what is added to a tensor: Gemma's norms multiply by 1 + w, and the models here by the tensor itself."""
    return find_architecture(config.model_type).norm_offset if name.endswith("norm") else 0.0
