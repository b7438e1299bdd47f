"""torch and transformers themselves: imported when they are used, since that takes seconds."""

import logging
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from kvscape.errors import DeviceError

PACKAGES = ("torch", "transformers")
INSTALL = "pip install 'kvscape[reference]'"


@dataclass(frozen=True)
class Library:
    """The modules ``torch`` and ``transformers``."""

    torch: Any
    transformers: Any


@cache
def find_library() -> Library:
    """Import both once for the process; raise DeviceError where one is not installed."""
    torch, transformers = (_imported(name) for name in PACKAGES)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns at every product of 8 bits
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return Library(torch, transformers)


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except (ImportError, OSError) as error:
        raise DeviceError("transformers cannot run here", f"{name} is missing ({error})", INSTALL) from None


def package_version() -> str:
    """Versions of both, which a speed and a perplexity belong to."""
    return ", ".join(f"{name} {_version(name)}" for name in PACKAGES)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def cpu_capability() -> str:
    """The instruction set that torch's own kernels use."""
    return str(find_library().torch.backends.cpu.get_cpu_capability())


def library_key() -> str:
    """What runs: both versions and the instruction set."""
    return f"{package_version()} {cpu_capability()}"


def check_device(device: str) -> None:
    """Raise DeviceError unless torch has the device: cpu, cuda or cuda:N."""
    if device in ("cpu", "cpu:0"):
        return
    kind, _, number = device.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise DeviceError(f"transformers has no device {device!r} here", "it has cpu and cuda:N", "use --device cpu")
    cuda = find_library().torch.cuda
    count = cuda.device_count() if cuda.is_available() else 0
    if int(number or 0) >= count:
        why = f"torch's last GPU is cuda:{count - 1}" if count else "torch sees no CUDA GPU"
        raise DeviceError(f"device {device!r} cannot run here", why, "use --device cpu")


def torch_device(device: str) -> str:
    """torch's name of a device."""
    return "cpu" if device == "cpu:0" else device
