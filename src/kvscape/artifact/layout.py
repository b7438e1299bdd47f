"""Where things lie in an artefact's folder."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kvscape.artifact.manifest import Manifest


@dataclass(frozen=True)
class Artifact:
    """A folder of converted weights and compiled libraries."""

    folder: Path

    @cached_property
    def manifest(self) -> Manifest:
        return Manifest.read(self.folder)

    @property
    def canonical_weights(self) -> Path:
        """Codes in MLC's own layout."""
        return self.folder / "weights" / "canonical.safetensors"

    def packed_weights(self, layout: str) -> Path:
        """The same codes in the order a target's kernels read them, 64-byte aligned."""
        return self.folder / "weights" / f"packed-{layout}.safetensors"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer.json"

    @property
    def chat_template(self) -> Path:
        return self.folder / "chat_template.jinja"

    @property
    def calibration_tokens(self) -> Path:
        """The windows of token ids that calibrated weights were rounded for: where a text overlaps, scores flatter."""
        return self.folder / "calibration.safetensors"

    def library(self, key: str) -> Path:
        """The compiled library for one target and activation precision."""
        return self.folder / "lib" / f"{key}.tar"
