"""Random weights for a library of a known shape, packed as it reads them: what ``gpu.py`` measures with."""

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kvscape.artifact import LibraryMetadata
from kvscape.artifact.tensor_file import TensorSpec
from kvscape.artifact.tensor_writer import TensorWriter
from kvscape.files import written_file
from kvscape.quantization.format import FORMATS
from kvscape.quantization.layouts import LAYOUTS
from kvscape.weights.canonical import canonical_shapes


def packed(metadata: LibraryMetadata) -> Iterator[tuple[str, TensorSpec]]:
    """Name and shape of each packed tensor."""
    for name, shape in canonical_shapes(metadata.model).items():
        if len(shape) == 1:
            yield f"{name}.weight", TensorSpec("float32", shape)
            continue
        layout, fmt = LAYOUTS[metadata.layout], FORMATS[metadata.tensor_formats[name]]
        for part, (packed_shape, dtype) in layout.shapes(fmt, *shape).items():
            yield f"{name}.{part}", TensorSpec(dtype, packed_shape)


def numbers(spec: TensorSpec, is_float: bool, rng: np.random.Generator) -> NDArray[np.generic]:
    """Random codes or f16 numbers, small scales, norms of 1."""
    if spec.dtype == "float32":
        return np.ones(spec.shape, np.float32)
    if is_float:
        halves = (rng.standard_normal(1 << 20) * 0.02).astype(np.float16)
        return np.resize(halves, prod(spec.shape) // 2).view(np.uint8)
    if spec.dtype == "uint8":
        return np.frombuffer(rng.bytes(prod(spec.shape)), np.uint8)
    return np.resize((rng.random(1 << 16) * 0.008 + 0.002).astype(np.float16), spec.shape)


def write_weights(metadata: LibraryMetadata, path: Path) -> None:
    specs, rng = dict(packed(metadata)), np.random.default_rng(0)
    with written_file(path) as temporary, TensorWriter(temporary, specs) as writer:
        for name, spec in specs.items():
            fmt = metadata.tensor_formats.get(name.rsplit(".", 1)[0])
            writer.write(name, numbers(spec, fmt == "f16", rng))
