"""Which reader a model's file or folder needs."""

from pathlib import Path

from kvscape.errors import WeightsError
from kvscape.models.registry import check_model
from kvscape.weights.readers.folder import ModelFolder
from kvscape.weights.readers.gguf import GgufSource
from kvscape.weights.readers.gguf_files import first_of_split
from kvscape.weights.readers.huggingface import CONFIG, HuggingFaceSource, read_shape
from kvscape.weights.source import Source


def open_source(path: Path) -> Source:
    """Open a .gguf file, a folder with one, or a Hugging Face folder.

    What is not implemented is refused once the shape is known, before weights are read. Raises WeightsError for a
    folder that is none of these or is damaged, UnsupportedModelError for a model that cannot run.
    """
    if path.is_dir() and not list(path.glob("*.gguf")):
        if (path / CONFIG).is_file():
            return HuggingFaceSource(path)
        raise WeightsError(f"cannot use the folder {path}", f"it holds no {CONFIG} and no .gguf file", _FORMS)
    source = GgufSource(gguf_file(path))
    check_model(source.config)
    return source


def check_folder(path: Path) -> None:
    """Raise UnsupportedModelError if a folder's texts, its weights not being there yet, say that it cannot run."""
    if (path / CONFIG).is_file():
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


_FORMS = "give a .gguf file, a Hugging Face folder or a converted folder"
