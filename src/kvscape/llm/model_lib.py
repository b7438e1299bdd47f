"""A library that the user gives: it must belong to the weights and run on this processor."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from kvscape.artifact import LibraryMetadata, Manifest
from kvscape.compiler.cuda_target import is_cuda
from kvscape.compiler.target import Target, find_any_target, runs_here
from kvscape.compiler.webgpu_target import WGSL
from kvscape.config import KVPrecision, ModelConfig, adapter_name, cuda_index
from kvscape.errors import ArtifactError
from kvscape.version import __version__


def library_target(path: Path, manifest: Manifest, activation: str, kv_dtype: str, device: str = "cpu") -> Target:
    """Return the target of a library; raise ArtifactError saying why it cannot run ``manifest``'s weights here."""
    from kvscape.engine.devices import library  # sets up TVM's runtime, which most builds need not wait for

    metadata = library.library_metadata(path)
    target = find_any_target(metadata.target)
    if _kind(metadata.target) != _device_kind(device):
        why = f"it was compiled for {metadata.target}, --device {device} is asked for"
        raise ArtifactError(f"the library {path} does not fit", why, "leave --model-lib out, or compile it again")
    for why in _obstacles(metadata, manifest, target.activation(activation), kv_dtype):
        raise ArtifactError(f"the library {path} does not fit", why, "leave --model-lib out, or compile it again")
    return target


def check_key(path: Path, wanted: str) -> None:
    """Raise ArtifactError for a library that this version of kvscape and of TVM would not compile the same again."""
    from kvscape.engine.devices import library

    if (key := library.library_metadata(path).key) != wanted:
        why = f"its key is {key}, the build's is {wanted}: other sources, versions or --overrides"
        raise ArtifactError(f"the library {path} does not fit", why, "compile it again where it comes from")


def _kind(target: str) -> str:
    return "cuda" if is_cuda(target) else WGSL.name if target == WGSL.name else "cpu"


def _device_kind(device: str) -> str:
    if adapter_name(device) is not None:
        return WGSL.name
    return "cpu" if cuda_index(device) is None else "cuda"


def _obstacles(metadata: LibraryMetadata, manifest: Manifest, activation: str, kv_dtype: str) -> Iterator[str]:
    if metadata.kvscape_version != __version__:
        yield f"it was compiled by kvscape {metadata.kvscape_version}, this is {__version__}"
    if not runs_here(metadata.target):
        yield f"it was compiled for {metadata.target}, which this processor does not have"
    yield from _other_shapes(metadata.model, manifest.model)
    for name, info in manifest.tensors.items():
        wanted = metadata.tensor_formats.get(name)
        if wanted is not None and wanted != info.format:
            yield f"it wants {name} as {wanted}, the weights have {info.format}"
    if metadata.activation != activation:
        yield f"it was compiled with --activation {metadata.activation}, {activation} is asked for"
    if (name := KVPrecision.parse(kv_dtype).name) not in metadata.kv_dtypes:
        yield f"it has the KV precisions {', '.join(metadata.kv_dtypes)}, {name} is asked for"


def _other_shapes(library: ModelConfig, weights: ModelConfig) -> Iterator[str]:
    for name in (field.name for field in fields(ModelConfig)):
        wanted, given = getattr(library, name), getattr(weights, name)
        if wanted != given:
            yield f"it was compiled for a model with {name} = {wanted}, this one has {given}"
