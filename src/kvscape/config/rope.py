"""How rotary frequencies are stretched beyond the length a model was trained on, in Hugging Face's words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvscape.config.fields import from_mapping

ROPE_TYPES = ("default", "linear", "llama3", "yarn", "longrope")


@dataclass(frozen=True)
class RopeScaling:
    """The parameters of one ``rope_type``; those of other types are at their defaults.

    llama3 takes ``factor``, ``low_freq_factor``, ``high_freq_factor`` and ``original_max_position_embeddings``; yarn
    (arXiv 2309.00071) ``factor``, ``beta_fast``, ``beta_slow``, ``mscale``, ``mscale_all_dim``, ``truncate``; longrope
    (arXiv 2402.13753) one factor for each pair of dimensions, below and beyond the original length.
    ``attention_factor`` None is what the type's own paper gives.
    """

    rope_type: str = "default"
    factor: float = 1.0
    original_max_position_embeddings: int | None = None
    attention_factor: float | None = None
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()

    @classmethod
    def from_json(cls, mapping: Mapping[str, Any]) -> "RopeScaling":
        factors = {name: tuple(mapping.get(name, ())) for name in ("short_factor", "long_factor")}
        return from_mapping(cls, {**mapping, **factors}, "rope_scaling")


UNSCALED = RopeScaling()
