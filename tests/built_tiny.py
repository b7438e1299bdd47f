"""The tiny model, converted, packed and compiled in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvscape.artifact import Artifact
from kvscape.compiler.build import LibrarySpec, compile_library
from kvscape.compiler.target import CpuTarget, detect_target
from kvscape.config import KV_DTYPES
from kvscape.weights.convert import convert
from kvscape.weights.pack import pack_weights
from kvscape.weights.readers.gguf import GgufSource
from kvscape.weights.source import Source


@dataclass(frozen=True, eq=False)
class BuiltTiny:
    artifact: Artifact
    target: CpuTarget
    library: Path

    @property
    def packed_weights(self) -> Path:
        return self.artifact.packed_weights(self.target.layout.name)


BuildTiny = Callable[[str], BuiltTiny]


def matrix_formats(artifact: Artifact) -> dict[str, str]:
    return {name: info.format for name, info in artifact.manifest.tensors.items() if len(info.shape) > 1}


def build_tiny(
    gguf: Path,
    folder: Path,
    quantization: str,
    embedding_quantization: str | None = None,
    activation: str = "int8",
    kv_dtypes: tuple[str, ...] = KV_DTYPES,
) -> BuiltTiny:
    """Build what ``folder`` does not hold already. Compile takes some seconds: share the result."""
    artifact = Artifact(folder / quantization)
    if not artifact.folder.exists():
        convert(GgufSource(gguf), artifact.folder, quantization, embedding_quantization)
        pack_weights(artifact, detect_target().layout)
    return _compiled(artifact, activation, kv_dtypes)


def build_source(source: Source, folder: Path, quantization: str, kv_dtypes: tuple[str, ...]) -> BuiltTiny:
    """Build the model of any source, what ``folder`` does not hold already."""
    artifact = Artifact(folder / quantization)
    if not artifact.folder.exists():
        convert(source, artifact.folder, quantization)
        pack_weights(artifact, detect_target().layout)
    return _compiled(artifact, "int8", kv_dtypes)


def _compiled(artifact: Artifact, activation: str, kv_dtypes: tuple[str, ...]) -> BuiltTiny:
    target = detect_target()
    formats = matrix_formats(artifact)
    spec = LibrarySpec(artifact.manifest.model, formats, target, activation, {"page_size": 32}, kv_dtypes)
    library = artifact.library(spec.key)
    if not library.exists():
        compile_library(spec, library)
    return BuiltTiny(artifact, target, library)
