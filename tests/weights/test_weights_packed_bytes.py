"""What packed weights will take, known before they are packed."""

import shutil
from pathlib import Path

import pytest

from built_tiny import BuildTiny
from kvscape.artifact import Artifact
from kvscape.artifact.tensor_file import map_tensors
from kvscape.quantization.layouts import LAYOUTS
from kvscape.weights.pack import pack_weights, packed_bytes


@pytest.mark.parametrize("layout", ["rows8", "rows16", "fragments"])
def test_packed_bytes_are_those_of_the_file(built_tiny: BuildTiny, tmp_path: Path, layout: str) -> None:
    built = built_tiny("auto").artifact
    shutil.copytree(built.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("lib"))
    artifact = Artifact(tmp_path / "copy")
    pack_weights(artifact, LAYOUTS[layout])
    arrays = map_tensors(artifact.packed_weights(layout))
    assert packed_bytes(artifact, LAYOUTS[layout]) == sum(array.nbytes for array in arrays.values())
