"""CUDA C++ to machine code: NVRTC, from its wheel or the system, else nvcc. No GPU is needed."""

import ctypes
import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from kvscape.errors import KvscapeError

_OPTIONS = ("--std=c++17",)
_SYSTEM = ("libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12")


def compile_cuda(source: str, architecture: str) -> bytes:
    """Return the machine code (a cubin) of ``source`` for ``sm_NN``; raise KvscapeError where there is no compiler."""
    library = find_nvrtc()
    if library is not None:
        return with_nvrtc(library, source, architecture)
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        why, do = "neither NVRTC nor nvcc is here", "pip install nvidia-cuda-nvrtc"
        raise KvscapeError("cannot compile CUDA kernels", why, do)
    return with_nvcc(nvcc, source, architecture)


def _all_of(architecture: str) -> str:
    """With the instructions that only this architecture has: products of warpgroups."""
    return f"{architecture}a" if architecture == "sm_90" else architecture


def find_nvrtc() -> Any:
    """The library of the wheel ``nvidia-cuda-nvrtc``, else the system's, else None."""
    for name in (*map(str, _in_wheels()), *_SYSTEM):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _in_wheels() -> list[Path]:
    spec = importlib.util.find_spec("nvidia")
    roots = [] if spec is None else list(spec.submodule_search_locations or ())
    return sorted((path for root in roots for path in Path(root).glob("*/lib/libnvrtc.so.*")), reverse=True)


def with_nvrtc(library: Any, source: str, architecture: str) -> bytes:
    """The cubin by NVRTC; raise RuntimeError with the compiler's log for a source that is wrong."""
    program = ctypes.c_void_p()
    _check(library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None))
    options = [f"--gpu-architecture={_all_of(architecture)}", *_OPTIONS]
    arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    try:
        if library.nvrtcCompileProgram(program, len(options), arguments):
            raise RuntimeError(_read(library, program, "ProgramLog").decode(errors="replace"))
        return _read(library, program, "CUBIN")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _read(library: Any, program: Any, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(library, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"NVRTC failed with status {status}")


def with_nvcc(nvcc: str, source: str, architecture: str) -> bytes:
    """The cubin by nvcc; raise RuntimeError with the compiler's log for a source that is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        text, result = Path(folder) / "kernels.cu", Path(folder) / "kernels.cubin"
        text.write_text(source, encoding="utf-8")
        command = [nvcc, f"-arch={_all_of(architecture)}", "-cubin", "-std=c++17", "-o", str(result), str(text)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return result.read_bytes()
