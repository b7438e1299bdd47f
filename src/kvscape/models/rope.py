"""How a layer group's queries and keys are rotated: frequencies and a factor, computed once with numpy.

The formulas are those of the papers, with the defaults of Hugging Face's ``rope_type``: linear, llama3, yarn (Peng et
al. 2023, arXiv 2309.00071), longrope (Ding et al. 2024, arXiv 2402.13753).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kvscape.config import UNSCALED, LayerGroup, ModelConfig, RopeScaling

Frequencies: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rotary:
    """Angles per position of the pairs of a head's rotated dimensions, and what cosines and sines are multiplied by.

    A model with ``long`` frequencies takes them where its queries may see more than ``length`` tokens: keys are rotated
    once, so it depends on the engine's context, not on how much of it is full.
    """

    frequencies: tuple[float, ...]
    factor: float = 1.0
    long: tuple[float, ...] = ()
    length: int = 0

    @property
    def dim(self) -> int:
        """Dimensions of a head that are rotated, the first ones."""
        return 2 * len(self.frequencies)


def rotary(config: ModelConfig, group: LayerGroup) -> Rotary:
    """Return the rotation of a layer group; layers behind the model's own window may have their own base, unscaled."""
    if group.sliding_window_size != -1 and config.rope_local_base_freq is not None:
        return _default(config, UNSCALED, _frequencies(config, config.rope_local_base_freq))
    scaling = config.rope_scaling
    return _ROTARIES[scaling.rope_type](config, scaling, _frequencies(config, config.rope_theta))


def rotated_dim(config: ModelConfig) -> int:
    return int(config.head_dim * config.partial_rotary_factor + 1e-6)  # a factor of sizes, 96 / 128, may be rounded


def _frequencies(config: ModelConfig, base: float) -> Frequencies:
    dim = rotated_dim(config)
    result: Frequencies = base ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
    return result


def _default(config: ModelConfig, scaling: RopeScaling, frequencies: Frequencies) -> Rotary:
    return Rotary(tuple(frequencies.tolist()))


def _linear(config: ModelConfig, scaling: RopeScaling, frequencies: Frequencies) -> Rotary:
    return Rotary(tuple((frequencies / scaling.factor).tolist()))


def _llama3(config: ModelConfig, scaling: RopeScaling, frequencies: Frequencies) -> Rotary:
    """Long waves are stretched by the factor, short ones stay, those between are blended."""
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    waves = _original_length(config) * frequencies / (2 * math.pi)  # full turns within the original length
    kept = np.clip((waves - low) / (high - low), 0, 1)
    return Rotary(tuple(_blended(frequencies, scaling.factor, kept).tolist()))


def _yarn(config: ModelConfig, scaling: RopeScaling, frequencies: Frequencies) -> Rotary:
    dim, factor = 2 * len(frequencies), _stretch(config)

    def place(turns: float) -> float:
        """Where among the dimensions a wave makes so many turns within the original length."""
        waves = _original_length(config) / (turns * 2 * math.pi)
        return dim * math.log(waves) / (2 * math.log(config.rope_theta))

    low, high = place(scaling.beta_fast), place(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = (np.arange(dim // 2) - low) / max(high - low, 0.001)
    blended = _blended(frequencies, factor, 1 - np.clip(ramp, 0, 1))
    return Rotary(tuple(blended.tolist()), _yarn_factor(scaling, factor))


def _yarn_factor(scaling: RopeScaling, factor: float) -> float:
    if scaling.attention_factor is not None:
        return scaling.attention_factor

    def scale(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0

    if scaling.mscale and scaling.mscale_all_dim:
        return scale(scaling.mscale) / scale(scaling.mscale_all_dim)
    return scale(1)


def _longrope(config: ModelConfig, scaling: RopeScaling, frequencies: Frequencies) -> Rotary:
    length, factor = _original_length(config), _stretch(config)
    attention = math.sqrt(1 + math.log(factor) / math.log(length)) if factor > 1 else 1.0
    short, long = (frequencies / np.array(factors) for factors in (scaling.short_factor, scaling.long_factor))
    given = scaling.attention_factor
    return Rotary(tuple(short.tolist()), attention if given is None else given, tuple(long.tolist()), length)


def _blended(frequencies: Frequencies, factor: float, kept: npt.NDArray[Any]) -> Frequencies:
    """Frequencies divided by ``factor``, but for the part of each that is ``kept``."""
    result: Frequencies = frequencies / factor * (1 - kept) + frequencies * kept
    return result


def _original_length(config: ModelConfig) -> int:
    return config.rope_scaling.original_max_position_embeddings or config.max_position_embeddings


def _stretch(config: ModelConfig) -> float:
    """How much longer than the original the context is; a factor of 1 says no more than that there is none."""
    factor = config.rope_scaling.factor
    return factor if factor != 1 else config.max_position_embeddings / _original_length(config)


_ROTARIES: Mapping[str, Callable[[ModelConfig, RopeScaling, Frequencies], Rotary]] = MappingProxyType(
    {"default": _default, "linear": _linear, "llama3": _llama3, "yarn": _yarn, "longrope": _longrope}
)
