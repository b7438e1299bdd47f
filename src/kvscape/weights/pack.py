"""Write the packed weights of a layout beside the canonical ones."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvscape.artifact import Artifact
from kvscape.artifact.tensor_file import TensorSpec, map_tensors, write_stream
from kvscape.quantization.format import FORMATS
from kvscape.quantization.layouts import Layout


def pack_weights(artifact: Artifact, layout: Layout) -> None:
    """Reorder every matrix into ``layout``; norms stay as they are. The file appears whole, by rename."""
    tensors = map_tensors(artifact.canonical_weights)
    write_stream(artifact.packed_weights(layout.name), _specs(artifact, layout), _arrays(artifact, layout, tensors))


def _specs(artifact: Artifact, layout: Layout) -> dict[str, TensorSpec]:
    specs = {}
    for name, info in artifact.manifest.tensors.items():
        if len(info.shape) == 1:
            specs[f"{name}.weight"] = TensorSpec("float32", info.shape)
            continue
        for part, (shape, dtype) in layout.shapes(FORMATS[info.format], *info.shape).items():
            specs[f"{name}.{part}"] = TensorSpec(dtype, shape)
    return specs


def _arrays(artifact: Artifact, layout: Layout, tensors: dict[str, NDArray[Any]]) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, info in artifact.manifest.tensors.items():
        if len(info.shape) == 1:
            yield f"{name}.weight", tensors[f"{name}.weight"].astype(np.float32)
            continue
        parts = {part: tensors[f"{name}.{part}"] for part in FORMATS[info.format].shapes(info.shape)}
        for part, array in layout.pack(parts, FORMATS[info.format]).items():
            yield f"{name}.{part}", array
