"""The artefact: a folder that the compile side writes and the run side reads."""

from kvscape.artifact.layout import Artifact
from kvscape.artifact.library import LibraryMetadata
from kvscape.artifact.manifest import Manifest, TensorInfo

__all__ = ["Artifact", "LibraryMetadata", "Manifest", "TensorInfo"]
