"""Rotary frequencies in a ``config.json``, in the words of transformers 4 and 5.

``rope_theta`` and ``rope_scaling``, or ``rope_parameters``.
Source: transformers' ``modeling_rope_utils.py`` and the configurations of Gemma 3 and Phi-3, whose defaults these are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kvscape.config import RopeScaling
from kvscape.config.model import FULL, SLIDING
from kvscape.errors import UnsupportedModelError
from kvscape.weights.readers.fields import Fields

_THETA = 10_000.0
_GEMMA3_THETA, _GEMMA3_LOCAL_THETA = 1_000_000.0, 10_000.0
_PHI3_ORIGINAL = 4096


@dataclass(frozen=True)
class Rope:
    """``local_theta`` None: layers with a window have the frequencies of the others, unscaled or not."""

    theta: float
    local_theta: float | None
    scaling: RopeScaling
    partial_rotary_factor: float


def read_rope(config: Fields, model_type: str) -> Rope:
    """Read how positions are encoded. Raises UnsupportedModelError for a scaling that is not known, WeightsError for
    parameters that are missing or of the wrong kind."""
    given = config.inner("rope_scaling") or config.inner("rope_parameters") or Fields({}, config.where)
    full, local = given.inner(FULL), given.inner(SLIDING)
    if full is None and local is None:
        full = given
    shared = full or local or given
    gemma3 = model_type == "gemma3_text"
    if not gemma3:
        _check_same(full, local)
    theta = shared.real("rope_theta", config.real("rope_theta", _GEMMA3_THETA if gemma3 else _THETA))
    return Rope(
        theta,
        _local_theta(config, local) if gemma3 else None,
        _scaling(shared, config, model_type),
        shared.real("partial_rotary_factor", config.real("partial_rotary_factor", 1.0)),
    )


def _local_theta(config: Fields, local: Fields | None) -> float:
    if local is not None and _type(local) != "default":
        raise UnsupportedModelError(
            f"{config.where}: RoPE scaling of layers with a window is not supported", "", _OTHER
        )
    default = config.real("rope_local_base_freq", _GEMMA3_LOCAL_THETA)
    return default if local is None else local.real("rope_theta", default)


def _check_same(full: Fields | None, local: Fields | None) -> None:
    """Only Gemma 3 has two kinds of frequencies."""
    if full is not None and local is not None and full.values != local.values:
        raise UnsupportedModelError(f"{full.where} differs from {SLIDING}", "only gemma3 may have two", _OTHER)


def _type(given: Fields) -> str:
    return given.word("rope_type", given.word("type", "default"))


def _scaling(given: Fields, config: Fields, model_type: str) -> RopeScaling:
    name = _type(given)
    if model_type == "phi3" and name in ("su", "yarn"):  # what it was called before it was longrope
        name = "longrope"
    if name not in _READERS:
        known = ", ".join(_READERS)
        raise UnsupportedModelError(f"RoPE scaling {name!r} is not supported", f"known are {known}", _OTHER)
    return _READERS[name](given, config, _original(given, config, model_type))


def _original(given: Fields, config: Fields, model_type: str) -> int:
    """The length that the model was trained on at first."""
    own = "original_max_position_embeddings"
    if model_type == "phi3":
        return config.whole(own, given.whole(own, _PHI3_ORIGINAL))
    return given.whole(own, config.whole(own, config.whole("max_position_embeddings")))


def _linear(given: Fields, config: Fields, original: int) -> RopeScaling:
    return RopeScaling("linear", given.real("factor"))


def _llama3(given: Fields, config: Fields, original: int) -> RopeScaling:
    low, high = given.real("low_freq_factor"), given.real("high_freq_factor")
    if low >= high:
        raise given.wrong("low_freq_factor", f"is {low}, not below high_freq_factor {high}")
    return RopeScaling("llama3", given.real("factor"), original, low_freq_factor=low, high_freq_factor=high)


def _yarn(given: Fields, config: Fields, original: int) -> RopeScaling:
    return RopeScaling(
        "yarn",
        _factor(given, config, original),
        original,
        given.optional_real("attention_factor"),
        beta_fast=given.real("beta_fast", RopeScaling.beta_fast),
        beta_slow=given.real("beta_slow", RopeScaling.beta_slow),
        mscale=given.optional_real("mscale"),
        mscale_all_dim=given.optional_real("mscale_all_dim"),
        truncate=given.flag("truncate", RopeScaling.truncate),
    )


def _longrope(given: Fields, config: Fields, original: int) -> RopeScaling:
    return RopeScaling(
        "longrope",
        _factor(given, config, original),
        original,
        given.optional_real("attention_factor"),
        short_factor=given.reals("short_factor"),
        long_factor=given.reals("long_factor"),
    )


def _factor(given: Fields, config: Fields, original: int) -> float:
    return given.real("factor", config.whole("max_position_embeddings") / original)


_READERS: Mapping[str, Callable[[Fields, Fields, int], RopeScaling]] = MappingProxyType(
    {
        "default": lambda given, config, original: RopeScaling(),
        "linear": _linear,
        "llama3": _llama3,
        "yarn": _yarn,
        "longrope": _longrope,
    }
)
_OTHER = "use another model"
