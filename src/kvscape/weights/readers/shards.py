"""The safetensors files of a folder as one table of tensors."""

from collections.abc import Mapping

from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.quantization.ggml import find_ggml_type
from kvscape.weights.file_rows import FileRows
from kvscape.weights.ggml_tensor import Rows
from kvscape.weights.readers.folder import ModelFolder
from kvscape.weights.readers.safetensors_header import DTYPES, SafeTensor, read_header

INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"


def shard_names(folder: ModelFolder) -> list[str]:
    """Return the names of the files that hold the weights: those of the index, else the one file there is."""
    if folder.has(INDEX):
        return sorted(set(_weight_map(folder).values()))
    if folder.has(_SINGLE):
        return [_SINGLE]
    names = sorted(path.name for path in folder.path.glob("*.safetensors"))
    if len(names) != 1:
        why = f"it holds {len(names)} safetensors files and no {INDEX}" if names else "it holds no safetensors file"
        raise WeightsError(f"cannot use the folder {folder.path}", why, "download it again")
    return names


def read_shards(folder: ModelFolder) -> dict[str, SafeTensor]:
    """Return all tensors by name; raise WeightsError unless the index and the files agree."""
    tensors: dict[str, SafeTensor] = {}
    for name in shard_names(folder):
        shard = read_header(folder.file(name))
        if twice := tensors.keys() & shard.keys():
            raise WeightsError(f"{folder.path} is damaged", f"two files hold {min(twice)!r}", "download it again")
        tensors |= shard
    if folder.has(INDEX):
        _check_index(folder, tensors)
    return tensors


def check_type(name: str, tensor: SafeTensor) -> None:
    """Raise UnsupportedModelError for a tensor that holds no floats that are read here."""
    if tensor.dtype not in DTYPES:
        raise UnsupportedModelError(
            f"tensor {name!r} of {tensor.path} has the type {tensor.dtype}", "", f"use weights of {', '.join(DTYPES)}"
        )


def tensor_rows(tensor: SafeTensor) -> Rows:
    """Return a tensor's rows, in the file until they are asked for."""
    kind = find_ggml_type(tensor.dtype)
    rows = tensor.shape[0]
    return Rows(FileRows(tensor.path, tensor.offset, (rows, tensor.nbytes // rows)), kind)


def _weight_map(folder: ModelFolder) -> Mapping[str, str]:
    places = folder.json(INDEX).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(place, str) for place in places.values()):
        raise WeightsError(f"{folder.path / INDEX} is damaged", "it has no weight_map", "download it again")
    return places


def _check_index(folder: ModelFolder, tensors: Mapping[str, SafeTensor]) -> None:
    places = _weight_map(folder)
    wrong = [name for name, place in places.items() if name not in tensors or tensors[name].path != folder.path / place]
    extra = [name for name in tensors if name not in places]
    problems = {"are not where it says": wrong, "are not in it": extra}
    why = "; ".join(f"{len(names)} tensors {what}, {sorted(names)[0]!r}" for what, names in problems.items() if names)
    if why:
        raise WeightsError(f"{folder.path / INDEX} is damaged", why, "download it again")
