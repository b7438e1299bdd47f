"""The tiny architectures, converted, packed and compiled in this process."""

from collections.abc import Callable
from pathlib import Path

from architectures import ARCHITECTURES, RandomSource
from built_tiny import BuiltTiny, build_source

BuildArchitecture = Callable[..., BuiltTiny]
KV_DTYPES = {"gemma3_text": ("f32", "int4")}  # a compilation for each takes seconds: the others have one precision


def build_architecture(folder: Path, name: str, quantization: str) -> BuiltTiny:
    """Build what ``folder`` does not hold already."""
    kv_dtypes = KV_DTYPES.get(name, ("f32",))
    return build_source(RandomSource(ARCHITECTURES[name]), folder / name, quantization, kv_dtypes)
