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


@dataclass(frozen=True, eq=False)
class BuiltTiny:
    artifact: Artifact
    target: CpuTarget
    library: Path
    dump: Path

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
    dumps: bool = False,
) -> BuiltTiny:
    """Build what ``folder`` does not hold already. Compile takes some seconds: share the result."""
    target, artifact = detect_target(), Artifact(folder / quantization)
    if not artifact.folder.exists():
        convert(GgufSource(gguf), artifact.folder, quantization, embedding_quantization)
        pack_weights(artifact, target.layout)
    formats = matrix_formats(artifact)
    spec = LibrarySpec(artifact.manifest.model, formats, target, activation, {"page_size": 32}, kv_dtypes)
    library, dump = artifact.library(spec.key), folder / f"{quantization}-dump"
    if not library.exists():
        compile_library(spec, library, dump if dumps else None)
    return BuiltTiny(artifact, target, library, dump)
