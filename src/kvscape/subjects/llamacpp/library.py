"""llama.cpp itself: its Python package, and what it says instead of printing it."""

import ctypes
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from kvscape.errors import DeviceError

PACKAGE = "llama-cpp-python"
_INFO, _ERROR, _CONTINUED = 2, 4, 5


@dataclass(frozen=True)
class Log:
    """Lines that llama.cpp logged since ``clear``, without its debugging."""

    lines: list[tuple[int, str]] = field(default_factory=list)

    def add(self, level: int, text: bytes, _: object = None) -> None:
        if _INFO <= level < _CONTINUED:
            self.lines.append((level, text.decode("utf-8", "replace").strip()))

    def clear(self) -> None:
        self.lines.clear()

    @property
    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)

    @property
    def error(self) -> str:
        """The last complaint."""
        return next((line for level, line in reversed(self.lines) if level == _ERROR), "it gave no reason")


@dataclass(frozen=True)
class Library:
    """The module ``llama_cpp``; its log comes here. ``callback`` must live as long as the process."""

    api: Any
    log: Log
    callback: Any

    @property
    def features(self) -> tuple[str, ...]:
        """What it was compiled with, e.g. AVX2."""
        text = self.api.llama_print_system_info().decode()
        pairs = (part.rsplit(":", 1)[-1].partition("=") for part in text.split("|"))
        return tuple(name.strip() for name, _, value in pairs if value.strip() not in ("", "0"))


@cache
def find_library() -> Library:
    """Import llama.cpp once for the process; raise DeviceError where it is not installed."""
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        how = """CMAKE_ARGS="-DGGML_NATIVE=ON" pip install "kvscape[peers]" (some minutes), or 'make peer'"""
        raise DeviceError("llama.cpp cannot run here", f"{PACKAGE} is missing ({error})", how) from None
    log = Log()
    callback = llama_cpp.llama_log_callback(log.add)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return Library(llama_cpp, log, callback)


def package_version() -> str:
    """Version of the package, which pins llama.cpp's."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "not installed"
