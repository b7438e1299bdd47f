"""Write the packed weights of a layout beside the canonical ones, block by block."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from kvscape.artifact import Artifact, TensorInfo
from kvscape.artifact.tensor_file import StoredTensor, TensorSpec, find_tensors
from kvscape.artifact.tensor_writer import TensorWriter
from kvscape.files import written_file
from kvscape.quantization.format import FORMATS
from kvscape.quantization.layouts import Layout
from kvscape.weights.blocks import blocks, in_order


@dataclass(frozen=True)
class _Block:
    name: str
    info: TensorInfo
    rows: slice


def pack_weights(artifact: Artifact, layout: Layout) -> None:
    """Reorder every matrix into ``layout``; norms stay as they are. The file appears whole, by rename."""
    tensors = find_tensors(artifact.canonical_weights)
    specs = _specs(artifact, layout)
    with written_file(artifact.packed_weights(layout.name)) as temporary, TensorWriter(temporary, specs) as writer:
        for _ in in_order(partial(_write_block, tensors, layout, writer), _blocks(artifact, layout)):
            pass


def packed_bytes(artifact: Artifact, layout: Layout) -> int:
    """Bytes of the weights as the kernels read them; a layout may fill rows up."""
    return sum(spec.nbytes for spec in _specs(artifact, layout).values())


def _specs(artifact: Artifact, layout: Layout) -> dict[str, TensorSpec]:
    specs = {}
    for name, info in artifact.manifest.tensors.items():
        if len(info.shape) == 1:
            specs[f"{name}.weight"] = TensorSpec("float32", info.shape)
            continue
        for part, (shape, dtype) in layout.shapes(FORMATS[info.format], *info.shape).items():
            specs[f"{name}.{part}"] = TensorSpec(dtype, shape)
    return specs


def _blocks(artifact: Artifact, layout: Layout) -> Iterator[_Block]:
    for name, info in artifact.manifest.tensors.items():
        rows, *columns = info.shape
        for part in blocks(rows, columns[0], layout.rows) if columns else [slice(0, rows)]:
            yield _Block(name, info, part)


def _write_block(tensors: dict[str, StoredTensor], layout: Layout, writer: TensorWriter, block: _Block) -> None:
    name, info, fmt = block.name, block.info, FORMATS[block.info.format]
    parts = {part: tensors[f"{name}.{part}"].read(block.rows) for part in fmt.shapes(info.shape)}
    if len(info.shape) == 1:
        writer.write(f"{name}.weight", parts["weight"].astype(np.float32))
        return
    for part, array in layout.pack(parts, fmt).items():
        writer.write(f"{name}.{part}", array, block.rows.start, rows=info.shape[0])
