"""The device's half of a CUDA library: all that its host functions launch, compiled at once."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tvm import tirx

from kvscape.artifact.device_code import DeviceCode
from kvscape.compiler.kernels.cuda.host import DEVICE_CODE
from kvscape.compiler.nvrtc import compile_cuda

_EARLY = "tirx.use_programtic_dependent_launch"
_SOURCE = Path(__file__).parent / "kernels" / "cuda" / "source"
_NONE: Mapping[str, str] = MappingProxyType({})
# In the order in which they need each other.
PARTS = (
    "instructions",
    "common",
    "formats",
    "rows",
    "linear",
    "some",
    "products",
    "warpgroups",
    "choices",
    "draws",
    "edits",
    "pages",
    "rope",
    "spans",
    "ranges",
    "attention",
)


def device_code(mod: Any, architecture: str) -> DeviceCode:
    """What the host functions of ``mod`` launch, for ``architecture``."""
    return compiled([function for _, function in mod.functions_items()], architecture)


def compiled(functions: Iterable[Any], architecture: str) -> DeviceCode:
    """What these host functions launch."""
    launches = [launch for function in functions for launch in launches_of(function)]
    return DeviceCode(compile_cuda(source(launches), architecture), _described(launches, architecture))


def source(launches: Iterable[Mapping[str, Any]], instead: Mapping[str, str] = _NONE) -> str:
    """The C++ text of a library: the device functions, and a kernel for each launch; ``instead`` has other parts."""
    parts = [instead.get(name) or part(name) for name in PARTS]
    return "\n".join([*parts, *(launch["text"] for launch in launches)])


def part(name: str) -> str:
    """The C++ text of one of PARTS."""
    return (_SOURCE / f"{name}.cuh").read_text(encoding="utf-8")


def launches_of(function: Any) -> list[dict[str, Any]]:
    """What a host function launches."""
    text = function.attrs.get(DEVICE_CODE) if isinstance(function, tirx.PrimFunc) and function.attrs else None
    return json.loads(str(text)) if text is not None else []


def _described(launches: Iterable[Mapping[str, Any]], architecture: str) -> str:
    """What TVM's CUDA runtime must know of each kernel; from sm_90 on one may begin before the last one has ended."""
    early = [_EARLY] if int(architecture.removeprefix("sm_")) >= 90 else []
    functions = {
        launch["name"]: {
            "name": launch["name"],
            "arg_types": launch["arg_types"],
            "launch_param_tags": [*early, *launch["launch_param_tags"]],
        }
        for launch in launches
    }
    return json.dumps({"tvm_version": "0.27", "func_info": functions})
