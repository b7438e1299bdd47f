"""The packed weights that a library's functions take."""

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from kvscape.errors import ArtifactError


def parameters_of(arrays: Mapping[str, NDArray[Any]], names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """The arrays of ``names``, in their order; ArtifactError where one is not there."""
    found = {}
    for name in names:
        if name not in arrays:
            why, do = "they were packed for another library", "convert and compile the model again"
            raise ArtifactError(f"the weights lack {name}", why, do)
        found[name] = arrays[name]
    return found
