"""Kernels for another processor: linked with a small program that calls them, and run under qemu-user."""

import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm_ffi.libinfo import find_include_path

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
_CODES = {"i": 0, "u": 1, "f": 2}  # DLPack's


def missing_tools() -> list[str]:
    """The commands that this machine lacks to run kernels for NEON."""
    return [name for name in (COMPILER, EMULATOR) if shutil.which(name) is None]


class EmulatedKernels:
    """``kernels[name]`` is called as TVM's own function would be, with tensors, which it may write, and integers."""

    def __init__(self, executable: Any, names: Sequence[str]) -> None:
        folder = Path(tempfile.mkdtemp(prefix="kvscape-emulated-"))
        weakref.finalize(self, shutil.rmtree, folder)
        self._program = folder / "kernels"
        executable.mod.write_to_file(str(folder / "kernels.o"), "o")
        link_program(folder / "kernels.o", names, self._program)

    def __getitem__(self, name: str) -> Any:
        return lambda *arguments: self._call(name, arguments)

    def _call(self, name: str, arguments: Sequence[Any]) -> None:
        done = subprocess.run([EMULATOR, self._program, name], input=message(arguments), capture_output=True)
        if done.returncode:
            raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr.decode()}")
        at = 0
        for tensor in (argument for argument in arguments if not isinstance(argument, int)):
            array = tensor.numpy()
            tensor.copyfrom(np.frombuffer(done.stdout, array.dtype, array.size, at).reshape(array.shape))
            at += array.nbytes
        assert at == len(done.stdout)


def link_program(objects: Path, names: Sequence[str], program: Path, compiler: str = COMPILER) -> None:
    """Make a program of the kernels in an object file: see run_kernel.c."""
    kernels = " ".join(f"K({name})" for name in names)
    options = ["-O1", "-static", "-Wall", "-Werror", f"-I{find_include_path()}", f"-DKERNELS(K)={kernels}"]
    main = Path(__file__).with_name("run_kernel.c")
    subprocess.run([compiler, *options, main, objects, "-lm", "-o", program], check=True)


def message(arguments: Sequence[Any]) -> bytes:
    """The arguments as run_kernel.c reads them."""
    parts = (_numbers(0, part) if isinstance(part, int) else _tensor(part.numpy()) for part in arguments)
    return b"".join([_numbers(len(arguments)), *parts])


def _tensor(array: npt.NDArray[Any]) -> bytes:
    kind = _CODES[array.dtype.kind]
    return _numbers(1, kind, 8 * array.itemsize, array.ndim, *array.shape) + array.tobytes()


def _numbers(*values: int) -> bytes:
    return np.array(values, "<i8").tobytes()
