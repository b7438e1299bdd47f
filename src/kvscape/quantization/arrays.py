"""The numpy types that weights pass through."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
F16 = NDArray[np.float16]
F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]
Mask = NDArray[np.bool_]

# Rows are worked on in blocks, so that temporaries stay in the processor's cache.
_BLOCK_WEIGHTS = 1 << 18


def row_blocks(rows: int, columns: int) -> list[slice]:
    """Split ``rows`` into slices of about a megabyte of f32 each."""
    step = max(1, _BLOCK_WEIGHTS // max(1, columns))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
