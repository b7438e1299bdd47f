"""The manifest of converted weights: what they are, where they came from, how each tensor is stored."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kvscape.config import Calibration, CalibrationMethod, ModelConfig
from kvscape.config.fields import from_mapping
from kvscape.errors import ArtifactError, KvscapeError
from kvscape.files import write_text
from kvscape.version import __version__

FILE_NAME = "kvscape.json"


@dataclass(frozen=True)
class TensorInfo:
    """One logical tensor: its shape, its format and the squared error that rounding to the format added."""

    shape: tuple[int, ...]
    format: str
    relative_error: float = 0.0


@dataclass(frozen=True)
class Manifest:
    """What ``convert`` wrote. ``tensors`` maps MLC's parameter names (without ``.q_weight``) to their formats.

    ``calibration`` is None where the weights were rounded without a text.
    """

    source: str
    source_sha256: str
    quantization: str
    embedding_quantization: str
    model: ModelConfig
    tensors: dict[str, TensorInfo]
    weights_bytes: int
    bits_per_weight: float
    weights_key: str
    kvscape_version: str = __version__
    calibration: Calibration | None = None

    def write(self, folder: Path) -> None:
        write_text(folder / FILE_NAME, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read a folder's manifest; raise ArtifactError when it is missing, damaged or from another version."""
        path = folder / FILE_NAME
        try:
            raw: Any = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ArtifactError(f"no {FILE_NAME} in {folder}", "it is not a kvscape artefact", _REDO) from None
        except (OSError, ValueError) as error:
            raise ArtifactError(f"cannot read {path}", str(error), _REDO) from None
        if not isinstance(raw, dict):
            raise ArtifactError(f"{path} is damaged", "it holds no JSON object", _REDO)
        return cls._from_json(raw, path)

    @classmethod
    def _from_json(cls, raw: dict[str, Any], path: Path) -> "Manifest":
        if raw.get("kvscape_version") != __version__:
            why = f"it was written by kvscape {raw.get('kvscape_version')}, this is {__version__}"
            raise ArtifactError(f"{path} does not match", why, _REDO)
        try:
            tensors = {
                name: TensorInfo(tuple(info["shape"]), info["format"], info["relative_error"])
                for name, info in raw["tensors"].items()
            }
            calibration = raw.get("calibration") and _calibration(raw["calibration"])
            own = {"model": ModelConfig.from_json(raw["model"]), "tensors": tensors, "calibration": calibration}
            return from_mapping(cls, {**raw, **own})
        except (AttributeError, KeyError, TypeError, KvscapeError) as error:
            raise ArtifactError(f"{path} is damaged", str(error), _REDO) from None


def _calibration(raw: dict[str, Any]) -> Calibration:
    return from_mapping(Calibration, {**raw, "method": from_mapping(CalibrationMethod, raw["method"])})


_REDO = "convert the model again with 'kvscape convert'"
