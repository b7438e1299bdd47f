"""The machine and the versions behind a measurement."""

import hashlib
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from kvscape.analysis.cpu import cpu_features, cpu_name, default_threads
from kvscape.version import __version__

PACKAGES = (
    "apache-tvm",
    "apache-tvm-ffi",
    "apache-tvm-ffi-orcjit",
    "numpy",
    "gguf",
    "tokenizers",
    "llama-cpp-python",
    "torch",
    "transformers",
)


@dataclass(frozen=True)
class Environment:
    """Facts that may change a speed; ``machine`` is their fingerprint."""

    kvscape_version: str
    python: str
    system: str
    cpu: str
    cpu_features: tuple[str, ...]
    cores: int
    memory_bytes: int
    packages: dict[str, str]

    @property
    def machine(self) -> str:
        """Fingerprint of the hardware, for keys of speed records."""
        facts = (self.cpu, self.cpu_features, self.cores, self.memory_bytes >> 28)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "machine": self.machine}


def current_environment() -> Environment:
    """Read the facts of the machine this process runs on."""
    return Environment(
        kvscape_version=__version__,
        python=platform.python_version(),
        system=platform.platform(),
        cpu=cpu_name(),
        cpu_features=cpu_features(),
        cores=default_threads(),
        memory_bytes=psutil.virtual_memory().total,
        packages={name: _version(name) for name in PACKAGES},
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
