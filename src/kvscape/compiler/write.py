"""Write an executable as a tar of object files, which needs no C compiler, or as a shared library, which does."""

import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kvscape.artifact.device_code import DeviceHalf
from kvscape.errors import KvscapeError
from kvscape.files import written_file


def write_library(
    executable: Any, output: Path, device: DeviceHalf | None = None, objects: Mapping[str, bytes] = MappingProxyType({})
) -> None:
    """Write ``output`` by rename; its ending decides the form. ``objects`` are the object files of kernels, by name.

    Raise KvscapeError for ``.so`` without a compiler.
    """
    if output.suffix == ".so" and device is not None:
        raise KvscapeError(f"cannot write {output}", "a GPU's library is a .tar", "name it .tar")
    if output.suffix == ".so":
        _write_shared(executable, output, objects)
    elif output.suffix == ".tar":
        kernels = {f"{name}.o": code for name, code in objects.items()}
        _write_objects(executable, output, {**kernels, **({} if device is None else device.members())})
    else:
        raise KvscapeError(f"cannot write {output}", "a library ends with .tar or .so", "choose one of the two")


def _write_shared(executable: Any, output: Path, objects: Mapping[str, bytes]) -> None:
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        raise KvscapeError(f"cannot write {output}", "no C++ compiler was found", "write a .tar, which needs none")
    with tempfile.TemporaryDirectory() as folder:
        shared = Path(folder) / "library.so"
        files = [Path(folder) / f"{name}.o" for name in objects]
        for file, code in zip(files, objects.values(), strict=True):
            file.write_bytes(code)
        executable.export_library(str(shared), addons=[*map(str, files)])
        with written_file(output) as temporary:
            shutil.copyfile(shared, temporary)


def _write_objects(executable: Any, output: Path, others: Mapping[str, bytes]) -> None:
    def keep(_output: str, objects: list[str], *_: Any, **__: Any) -> None:
        with written_file(output) as temporary, tarfile.open(temporary, "w") as tar:
            for index, path in enumerate(objects):
                tar.add(path, f"{index}.o")
            for name, content in others.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, BytesIO(content))
        Path(_output).touch()

    keep.output_format = "o"  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        executable.export_library(str(Path(folder) / "objects"), fcompile=keep)
