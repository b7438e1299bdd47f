"""Random blocks of any of GGML's types: any codes, with finite scales of either sign."""

import gguf
import numpy as np
from numpy.typing import NDArray

from kvscape.quantization.ggml import GGML_TYPES


def random_blocks(name: str, rows: int, columns: int, seed: int = 0, largest: float = 0.01) -> NDArray[np.uint8]:
    """Return rows of blocks [rows, bytes]; scales and minima are below ``largest``."""
    random, kind = np.random.default_rng(seed), GGML_TYPES[name]
    shape = (rows, columns // kind.block_size)
    raw = random.integers(0, 256, (*shape, kind.block_bytes), np.uint8)
    if kind.keeps.is_float:
        weight = random.standard_normal((rows, columns), np.float32)
        floats: NDArray[np.uint8] = gguf.quants.quantize(weight, number(name)).view(np.uint8)
        return floats
    for at in kind.constants:
        raw[..., at : at + 2] = random.uniform(-largest, largest, (*shape, 1)).astype("<f2").view(np.uint8)
    return raw.reshape(rows, -1)


def number(name: str) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType[name]
