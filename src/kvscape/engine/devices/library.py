"""Load a compiled library: a tar of object files by ORC, which needs no linker, or a shared library."""

import tarfile
from pathlib import Path
from typing import Any

from kvscape.artifact import LibraryMetadata
from kvscape.artifact.device_code import DeviceCode
from kvscape.artifact.shaders import Shaders
from kvscape.engine.devices.runtime import tvm, tvm_ffi_orcjit
from kvscape.errors import ArtifactError


def load_library(path: Path) -> Any:
    """Return the runtime module of ``path``, of a GPU's library the host's half; ArtifactError if there is none."""
    if not path.is_file():
        raise ArtifactError(f"no library at {path}", "the file does not exist", "compile the model again")
    try:
        if path.suffix == ".so":
            return tvm.runtime.load_module(str(path))
        objects = [content for name, content in _members(path).items() if name.endswith(".o")]
        if not objects:
            raise ValueError("it holds no object files")
        return tvm_ffi_orcjit.ExecutionSession().load_module(objects)
    except (OSError, RuntimeError, ValueError, tarfile.TarError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0]
        raise ArtifactError(f"cannot load {path}", reason, "compile the model again: use --jit redo") from None


def read_device_code(path: Path) -> DeviceCode:
    """The other half of a GPU's library; raise ArtifactError if it has none."""
    code = DeviceCode.of_members(_members(path)) if tarfile.is_tarfile(path) else None
    if code is None:
        raise ArtifactError(
            f"cannot use {path}", "it holds no code for a GPU", "compile the model with --device cuda:0"
        )
    return code


def read_shaders(path: Path) -> Shaders:
    """The other half of a library for WebGPU; raise ArtifactError if it has none."""
    code = Shaders.of_members(_members(path)) if tarfile.is_tarfile(path) else None
    if code is None:
        raise ArtifactError(f"cannot use {path}", "it holds no shaders", "compile the model with --device vulkan:0")
    return code


def _members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        files = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        return {name: file.read() for name, file in files.items() if file is not None}


def library_metadata(path: Path) -> LibraryMetadata:
    """What the library of ``path`` says of itself; raise ArtifactError if it cannot be loaded."""
    return module_metadata(load_library(path), path)


def module_metadata(module: Any, path: Path) -> LibraryMetadata:
    """What a loaded library says of itself, asked of a machine on the host, whatever it was compiled for."""
    return read_metadata(tvm.runtime.vm.VirtualMachine(module, [tvm.runtime.device("cpu", 0)]), path)


def function_of(vm: Any, name: str) -> Any:
    """A function of the library, or None if it has none of that name."""
    try:
        return vm[name]
    except AttributeError:
        return None


def read_metadata(vm: Any, path: Path) -> LibraryMetadata:
    """Ask the library what it is; raise ArtifactError if kvscape of this version did not write it."""
    try:
        return LibraryMetadata.from_json(str(vm["_metadata"]()))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"it does not describe itself as this version does ({error})"
        raise ArtifactError(f"cannot use {path}", reason, "compile the model again with 'kvscape compile'") from None
