"""The GPUs that the package ``wgpu`` (extra ``webgpu``) can use: through Vulkan, Metal or DX12."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

from kvscape.config import AdapterName
from kvscape.errors import DeviceError

TIME_FEATURE = "timestamp-query"
FEATURES = ("shader-f16", "subgroup", TIME_FEATURE)
LIMITS = (
    "max-buffer-size",
    "max-storage-buffer-binding-size",
    "max-storage-buffers-per-shader-stage",
    "max-compute-workgroup-storage-size",
    "max-compute-invocations-per-workgroup",
)
_BACKENDS: Mapping[str, str] = MappingProxyType({"Vulkan": "vulkan", "Metal": "metal", "D3D12": "dx12"})
_UNTESTED = ("metal", "dx12")
# In the order in which adapters are numbered.
_KINDS: Mapping[str, str] = MappingProxyType(
    {"DiscreteGPU": "discrete", "IntegratedGPU": "integrated", "Unknown": "unknown kind", "CPU": "software"}
)


@dataclass(frozen=True)
class Adapter:
    """A driver's view of a GPU, or of a processor that stands in for one (``software``); ``handle`` is wgpu's own."""

    name: str
    backend: str
    kind: str
    driver: str = ""
    features: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)
    handle: Any = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        kind = "software, no GPU" if self.kind == "software" else self.kind
        untested = ["untested"] if self.backend in _UNTESTED else []
        limits = [f"{name} {value}" for name, value in self.limits.items()]
        return ", ".join([f"{self.name} ({kind})", self.driver, *untested, *self.features, *limits])


@dataclass(frozen=True)
class Adapters:
    """What was found, or what stands in the way of looking."""

    found: tuple[Adapter, ...]
    obstacle: str = ""

    def named(self) -> Iterator[tuple[str, Adapter]]:
        """Each with the device that picks it: ``vulkan:0``."""
        counts = dict.fromkeys(_BACKENDS.values(), -1)
        for adapter in self.found:
            counts[adapter.backend] += 1
            yield f"{adapter.backend}:{counts[adapter.backend]}", adapter


@cache
def adapters() -> Adapters:
    """The adapters of this machine: real GPUs first, else in the drivers' order."""
    # A layer of Mesa's that complains on stderr where there is no screen.
    os.environ.setdefault("NODEVICE_SELECT", "1")
    try:
        import wgpu
        from wgpu.backends.wgpu_native import extras
    except ImportError:
        return Adapters((), "the package wgpu is missing: pip install 'kvscape[webgpu]'")
    except (OSError, RuntimeError) as error:
        return Adapters((), f"the package wgpu does not start ({_line(error)})")
    with suppress(RuntimeError):  # this process has asked before
        # Not OpenGL, whose limits are too low.
        extras.set_instance_extras(backends=["Vulkan", "Metal", "DX12"])
    return ask(wgpu.gpu)


def ask(gpu: Any) -> Adapters:
    """What the drivers say."""
    try:
        found = _read(gpu.enumerate_adapters_sync())
    except Exception as error:  # what a broken driver raises is not documented
        return Adapters((), f"a graphics driver does not start ({_line(error)})")
    return Adapters(found, "" if found else "no Vulkan, Metal or DX12 driver shows a GPU")


def find_adapter(device: str, name: AdapterName, known: Adapters | None = None) -> Adapter:
    """Return what ``device`` names, of this machine if no others are ``known``; DeviceError where there is none."""
    known = known or adapters()
    fitting = [adapter for adapter in known.found if name.backend in (None, adapter.backend)]
    if name.index < len(fitting):
        return fitting[name.index]
    there = f"{name.backend or 'WebGPU'} adapters that this machine has: {len(fitting)}, counted from 0"
    raise DeviceError(f"device {device!r} cannot run here", known.obstacle or there, "use --device cpu")


def _read(handles: Iterable[Any]) -> tuple[Adapter, ...]:
    found = [_adapter(handle) for handle in handles if handle.info["backend_type"] in _BACKENDS]
    order = list(_KINDS.values())
    return tuple(sorted(found, key=lambda adapter: order.index(adapter.kind)))


def _adapter(handle: Any) -> Adapter:
    info, features = handle.info, handle.features
    return Adapter(
        info["device"],
        _BACKENDS[info["backend_type"]],
        _KINDS.get(info["adapter_type"], _KINDS["Unknown"]),
        info["description"],
        tuple(name for name in FEATURES if name in features),
        {name: int(handle.limits[name]) for name in LIMITS},
        handle,
    )


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
