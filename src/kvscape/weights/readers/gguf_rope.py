"""Rotary frequencies of a GGUF file: keys of its metadata, and tensors of factors.

Source: what llama.cpp's ``llama-model.cpp`` reads and its ``convert_hf_to_gguf.py`` writes.
"""

import math
from collections.abc import Mapping

import numpy as np

from kvscape.config import UNSCALED, RopeScaling
from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.quantization.arrays import F32
from kvscape.weights.readers.gguf_keys import Keys

# How Llama 3.1 and 3.2 stretch their frequencies; the file has the result only.
_LLAMA3 = tuple(
    RopeScaling("llama3", factor, 8192, low_freq_factor=1.0, high_freq_factor=4.0) for factor in (8.0, 32.0)
)


def read_rope(keys: Keys, theta: float, pairs: int, factors: Mapping[str, F32]) -> RopeScaling:
    """Return the scaling of ``pairs`` frequencies; ``factors`` are the tensors of factors that there are, by name.

    Raises UnsupportedModelError for one that is not known, WeightsError for a wrong key.
    """
    scaling = _from_keys(keys, factors)
    if "rope_freqs.weight" not in factors:
        return scaling
    if scaling != UNSCALED:
        raise _unsupported(f"{scaling.rope_type} together with a tensor of frequencies")
    return _recognised(factors["rope_freqs.weight"], theta, pairs)


def _from_keys(keys: Keys, factors: Mapping[str, F32]) -> RopeScaling:
    longrope = "rope_factors_long.weight" in factors or "rope_factors_short.weight" in factors
    name = keys.find("rope.scaling.type")
    if name is None:  # before there were types, a factor meant linear
        name = "longrope" if longrope else "linear" if _factor(keys) != 1 else "none"
    if longrope != (name == "longrope"):
        raise _unsupported(f"{name!r} {'with' if longrope else 'without'} tensors of factors")
    match name:
        case "none":
            return UNSCALED
        case "linear":
            factor = _factor(keys)
            return UNSCALED if factor == 1 else RopeScaling("linear", factor)
        case "yarn":
            return _yarn(keys)
        case "longrope":
            return _longrope(keys, factors)
    raise _unsupported(repr(name))


def _factor(keys: Keys) -> float:
    """``scale_linear`` is what the key was called at first."""
    return keys.optional_real("rope.scaling.factor") or keys.optional_real("rope.scale_linear") or 1.0


def _original(keys: Keys) -> int:
    return keys.optional_whole("rope.scaling.original_context_length") or keys.whole("context_length")


def _yarn(keys: Keys) -> RopeScaling:
    for name in ("rope.scaling.yarn_log_multiplier", "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor"):
        if keys.find(name) not in (None, 0, 1):
            raise _unsupported(f"'yarn' with {name} = {keys.find(name)}")
    factor, attention = _factor(keys), keys.optional_real("rope.scaling.attn_factor") or 1.0
    return RopeScaling(
        "yarn",
        factor,
        _original(keys),
        # llama.cpp multiplies its own factor of the attention with the file's
        None if attention == 1 else attention * (0.1 * math.log(factor) + 1),
        beta_fast=keys.optional_real("rope.scaling.yarn_beta_fast") or RopeScaling.beta_fast,
        beta_slow=keys.optional_real("rope.scaling.yarn_beta_slow") or RopeScaling.beta_slow,
    )


def _longrope(keys: Keys, factors: Mapping[str, F32]) -> RopeScaling:
    if len(factors) != 2:
        raise _unsupported("'longrope' with one tensor of factors instead of two")
    original = _original(keys)
    return RopeScaling(
        "longrope",
        keys.whole("context_length") / original,
        original,
        keys.optional_real("rope.scaling.attn_factor"),
        short_factor=_decimals(factors["rope_factors_short.weight"]),
        long_factor=_decimals(factors["rope_factors_long.weight"]),
    )


def _decimals(values: F32) -> tuple[float, ...]:
    """The shortest decimals that are the same f32: what the model's author wrote."""
    if not (np.isfinite(values) & (values > 0)).all():
        raise WeightsError("the factors of the rotary frequencies", "are not all positive numbers", "download again")
    return tuple(float(str(value)) for value in values)


def _recognised(divisors: F32, theta: float, pairs: int) -> RopeScaling:
    for scaling in (UNSCALED, *_LLAMA3) if len(divisors) == pairs else ():
        if np.allclose(divisors, llama3_divisors(scaling, theta, pairs), rtol=1e-6, atol=0):
            return scaling
    raise _unsupported("by a tensor of frequencies (rope_freqs.weight) that are not those of Llama 3.1 or 3.2")


def llama3_divisors(scaling: RopeScaling, theta: float, pairs: int) -> F32:
    """What each pair's frequency is divided by: 1 for short waves, ``factor`` for long ones, between them a mean."""
    waves = 2 * math.pi * theta ** (np.arange(pairs) / pairs)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    turns = (scaling.original_max_position_embeddings or 1) / waves
    share = ((turns - low) / (high - low)).clip(0, 1)
    divisors: F32 = (1 / ((1 - share) / scaling.factor + share)).astype(np.float32)
    return divisors


def _unsupported(what: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"RoPE scaling {what} is not supported", "", "use another model")
