"""The machine and the versions behind a measurement."""

import hashlib
import platform
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from kvscape.analysis.adapters import Adapter, find_adapter
from kvscape.analysis.cpu import cpu_features, cpu_name, default_threads
from kvscape.analysis.cuda import Gpus, gpus
from kvscape.config import adapter_name, cuda_index
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
    """Facts that may change a speed; ``machine`` is their fingerprint. Of GPUs it has the one that computes."""

    kvscape_version: str
    python: str
    system: str
    cpu: str
    cpu_features: tuple[str, ...]
    cores: int
    memory_bytes: int
    packages: dict[str, str]
    gpu: str = ""
    gpu_architecture: str = ""
    gpu_memory_bytes: int = 0
    gpu_driver: str = ""

    @property
    def machine(self) -> str:
        """Fingerprint of the hardware, for keys of speed records."""
        facts: tuple[object, ...] = (self.cpu, self.cpu_features, self.cores, self.memory_bytes >> 28)
        facts += (self.gpu, self.gpu_architecture, self.gpu_memory_bytes >> 28) if self.gpu else ()
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        facts = asdict(self)
        own = facts if self.gpu else {name: value for name, value in facts.items() if not name.startswith("gpu")}
        return {**own, "machine": self.machine}


def current_environment(device: str = "cpu", known: Gpus | None = None) -> Environment:
    """Read the facts of the machine this process runs on, and of its GPU if ``device`` is one."""
    if (name := adapter_name(device)) is not None:
        return _with_adapter(_host(), find_adapter(device, name))
    here, index, there = _host(), cuda_index(device), known or gpus()
    if index is None or index >= len(there.found):
        return here
    gpu = there.found[index]
    return replace(
        here,
        gpu=gpu.name,
        gpu_architecture=gpu.architecture,
        gpu_memory_bytes=gpu.memory_bytes,
        gpu_driver=there.driver,
    )


def _with_adapter(here: Environment, adapter: Adapter) -> Environment:
    """An adapter does not tell its memory; the same GPU through another driver is another machine."""
    driver = f"{adapter.driver}, wgpu {_version('wgpu')}"
    return replace(here, gpu=adapter.name, gpu_architecture=adapter.backend, gpu_driver=driver)


def _host() -> Environment:
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
