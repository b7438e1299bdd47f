"""``kvscape doctor``: what this machine and this installation have."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvscape.absent import absent
from kvscape.cli import options
from kvscape.cli.output import print_facts, print_json
from kvscape.config import is_gpu

if TYPE_CHECKING:
    from kvscape.analysis.device import Device as Limits

_BUILD = ("LLVM_VERSION", "USE_LLVM", "USE_CUDA", "USE_VULKAN", "USE_BLAS", "GIT_COMMIT_HASH")


Calibrate = Annotated[
    bool, typer.Option("--calibrate", help="Measure this machine's limits, which predictions begin with; some seconds.")
]


Device = Annotated[str | None, typer.Option("--device", help="Whose limits: cpu, cuda:0, vulkan:0. [default: cpu]")]


def command(
    calibrate: Calibrate = False,
    threads: options.Threads = None,
    device: Device = None,
    json: options.Json = False,
) -> None:
    """Show versions, TVM's build and targets, the processor, GPUs, the compiler, the cache and free memory."""
    name = device or "cpu"
    limits = _device(calibrate, threads, name)
    facts = {**_versions(), **_tvm(), **_machine(), **_gpus(), **_adapters(), **_cache()}
    if json:
        print_json({**facts, "calibration": limits and limits.to_json()})
    else:
        print_facts({**facts, f"calibration of {name}": _limits(limits, name)})


def _device(calibrate: bool, threads: int | None, device: str) -> "Limits | None":
    from kvscape.bench.calibrated import calibrate_device, stored_device
    from kvscape.cli.turn import own_turn

    if not calibrate:
        return stored_device(threads, device)
    with own_turn():
        return calibrate_device(threads, device)


def _limits(device: "Limits | None", name: str) -> list[str] | str:
    if device is None:
        return f"none yet: kvscape doctor --calibrate{'' if name == 'cpu' else f' --device {name}'}"
    threads = [] if is_gpu(name) else [f"{device.threads} thread{'s' if device.threads > 1 else ''}"]
    return [
        *threads,
        f"{device.memory_bytes_per_s / 1e9:.1f} GB/s",
        f"{device.integer_operations_per_s / 1e9:.0f} integer GOP/s",
        f"{device.float_operations_per_s / 1e9:.0f} float GOP/s",
        f"{device.call_s * 1e6:.1f} us a call",
        f"{device.token_s * 1e6:.1f} us of the host a token",
    ]


def _versions() -> dict[str, Any]:
    from kvscape.results import current_environment

    environment = current_environment()
    return {
        "kvscape": environment.kvscape_version,
        "python": environment.python,
        "system": environment.system,
        **environment.packages,
    }


def _tvm() -> dict[str, Any]:
    with absent("torch"):
        import tvm

    build = tvm.support.libinfo()
    targets = tvm.get_global_func("target.llvm_get_targets", allow_missing=True)
    return {
        "tvm_build": [f"{name}={build[name]}" for name in _BUILD if build.get(name)],
        "llvm_targets": [str(name) for name in targets()] if targets else [],
    }


def _machine() -> dict[str, Any]:
    import psutil

    from kvscape.compiler.target import detect_target
    from kvscape.results import current_environment

    environment = current_environment()
    compiler = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)
    return {
        "cpu": environment.cpu,
        "cpu_features": list(environment.cpu_features),
        "cores": environment.cores,
        "kernel_target": detect_target().name,
        "compiler": compiler or "none (not needed)",
        "free_memory_mib": psutil.virtual_memory().available >> 20,
        "total_memory_mib": environment.memory_bytes >> 20,
    }


def _gpus() -> dict[str, Any]:
    """The GPUs of ``--device cuda:0`` and the like, or why there are none."""
    from kvscape.analysis.cuda import gpus

    known = gpus()
    found = [
        f"cuda:{index}: {gpu.name}, {gpu.architecture}, {gpu.memory_bytes >> 20:,} MiB, driver {known.driver}"
        for index, gpu in enumerate(known.found)
    ]
    return {"cuda_gpus": found or known.obstacle or "none"}


def _adapters() -> dict[str, Any]:
    """The GPUs of ``--device vulkan:0`` and the like."""
    from kvscape.analysis.adapters import adapters

    known = adapters()
    return {"webgpu_adapters": known.obstacle or [f"{name}: {adapter}" for name, adapter in known.named()]}


def _cache() -> dict[str, Any]:
    from kvscape.hub import cache_dir

    folder = cache_dir()
    return {"cache": folder, "cache_mib": _size_bytes(folder) >> 20, "cache_writable": _writable(folder)}


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _writable(folder: Path) -> bool:
    """Whether the folder, or the first that exists above it, is a folder that takes files."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK)
