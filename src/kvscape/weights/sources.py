"""Which reader a model's file or folder needs."""

from pathlib import Path

from kvscape.errors import WeightsError
from kvscape.models.registry import check_model
from kvscape.weights.mlc_config import FILE as MLC_CONFIG
from kvscape.weights.readers.folder import ModelFolder
from kvscape.weights.readers.gguf import GgufSource
from kvscape.weights.readers.gguf_files import first_of_split
from kvscape.weights.readers.gguf_head import check_head
from kvscape.weights.readers.huggingface import CONFIG, HuggingFaceSource, read_shape
from kvscape.weights.readers.mlc import MlcSource, read_chat_config
from kvscape.weights.source import Source


def open_source(path: Path) -> Source:
    """Open a .gguf file, a folder with one, a Hugging Face folder or an MLC folder.

    What is not implemented is refused once the shape is known, before weights are read. Raises WeightsError for a
    folder that is none of these or is damaged, UnsupportedModelError for a model that cannot run.
    """
    if path.is_dir() and not list(path.glob("*.gguf")):
        if (path / MLC_CONFIG).is_file():
            return MlcSource(path)
        if (path / CONFIG).is_file():
            return HuggingFaceSource(path)
        why = f"it holds no {CONFIG}, no {MLC_CONFIG} and no .gguf file"
        raise WeightsError(f"cannot use the folder {path}", why, _FORMS)
    source = GgufSource(gguf_file(path))
    check_model(source.config)
    return source


def check_weightless(path: Path) -> None:
    """Raise UnsupportedModelError if a folder's texts, or a GGUF file's beginning, say that the model cannot run: the
    weights need not be there yet."""
    if path.is_file():
        check_head(path.read_bytes(), path.name)
    elif (path / MLC_CONFIG).is_file():
        read_chat_config(ModelFolder(path))
    elif (path / CONFIG).is_file():
        read_shape(ModelFolder(path))


def gguf_file(path: Path) -> Path:
    """Return the GGUF file that a path is, or the one in its folder: of a split model the first part.

    Raises WeightsError unless there is one.
    """
    if path.is_file():
        return path
    files = sorted(path.glob("*.gguf"))
    if first := first_of_split(files):
        return first
    if len(files) != 1:
        why = f"it holds {len(files)} .gguf files" if files else "it holds no .gguf file"
        raise WeightsError(f"cannot use the folder {path}", why, "give one .gguf file")
    return files[0]


_FORMS = "give a .gguf file, a Hugging Face, MLC or converted folder"
