"""The CUDA kernels on a processor: compiled by g++ behind emulated.h, and called by the same host functions.

What a host function launches it finds by name among TVM's global functions. It is exact enough to be compared with
float64; it says little of races and nothing of speed.
"""

import ctypes
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tvm
import tvm_ffi
from kernels import Kernels, Named
from tvm.target import Target

from kvscape.compiler.device_code import launches_of, source

needs_emulation = pytest.mark.skipif(
    platform.machine() != "x86_64" or shutil.which("g++") is None,
    reason="the CUDA kernels are compiled but not run: that takes g++ on x86-64",
)
_TYPES = {"handle": ctypes.c_void_p, "int32": ctypes.c_int32, "int64": ctypes.c_int64, "float32": ctypes.c_float}
_OPTIONS = ("-std=c++17", "-O1", "-march=native", "-ffp-contract=off", "-w", "-fPIC", "-shared")
_KERNEL = re.compile(r" (\w+)\(([^)]*)\) \{ ")
_DYNAMIC = re.compile(r"extern __shared__ (\w+) (\w+)\[\];")
_HEADERS = ("emulated.h", "emulated_async.h")
_WARPGROUPS = "#define __CUDA_ARCH_FEAT_SM90_ALL\n"  # what the compiler says of an H100
Launch = Mapping[str, Any]


class EmulatedKernels(Kernels):
    """As on a GPU of an architecture, but of functions instead of a library; ``folder`` gets what g++ makes of them."""

    def __init__(self, named: Iterable[Named], folder: Path, architecture: str = "sm_90") -> None:
        functions = dict(named)
        launches = [launch for function in functions.values() for launch in launches_of(function)]
        register(launches, folder, architecture)
        mod = tvm.IRModule({name: each.with_attr("global_symbol", name) for name, each in functions.items()})
        self.device, self._tvm = tvm.cpu(), tvm
        self._module = tvm.compile(mod, target=Target({"kind": "llvm"}))

    def function(self, name: str) -> Any:
        return self._module[name]


def register(launches: Iterable[Launch], folder: Path, architecture: str) -> None:
    """Make every launched function one of TVM's global functions."""
    by_name = {launch["name"]: launch for launch in launches}
    library = compiled(by_name.values(), folder, architecture)
    for name, launch in by_name.items():
        tvm_ffi.register_global_func(name, _Launched(getattr(library, f"run_{name}"), launch), override=True)


def compiled(launches: Iterable[Launch], folder: Path, architecture: str) -> ctypes.CDLL:
    """The kernels, each with a function that runs it for a grid."""
    headers = [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in _HEADERS]
    header = "\n".join([_WARPGROUPS if architecture == "sm_90" else "", *headers])
    text = _DYNAMIC.sub(r"\1* \2 = (\1*)dynamic_memory;", source(launches, {"instructions": header}))
    place = folder / "kernels.cpp"
    place.write_text("\n".join([text, *map(_runner, launches)]), encoding="utf-8")
    subprocess.run(["g++", *_OPTIONS, str(place), "-o", str(place.with_suffix(".so"))], check=True)
    return ctypes.CDLL(str(place.with_suffix(".so")))


def _runner(launch: Launch) -> str:
    """C++: the arguments come as addresses, and go to the block's threads as one structure."""
    name, parameters = _KERNEL.search(launch["text"]).groups()  # type: ignore[union-attr]
    types, names = zip(*(each.rsplit(" ", 1) for each in parameters.split(", ")), strict=True)
    members = " ".join(f"{kind} {each};" for kind, each in zip(types, names, strict=True))
    values = ", ".join(f"*({kind}*)values[{index}]" for index, kind in enumerate(types))
    passed = ", ".join(f"all->{each}" for each in names)
    return f"""
struct Arguments_{name} {{ {members} }};
static void body_{name}(void* p) {{ auto all = (Arguments_{name}*)p; {name}({passed}); }}
extern "C" void run_{name}(void** values, i64 columns, i64 rows, i64 threads, i64 shared_bytes) {{
  Arguments_{name} all = {{{values}}};
  run_grid(body_{name}, all, columns, rows, threads, shared_bytes);
}}"""


class _Launched:
    """What a host function calls: arguments, then the sizes that ``launch_param_tags`` name."""

    def __init__(self, run: Any, launch: Launch) -> None:
        self._run, self._types = run, [_TYPES[kind] for kind in launch["arg_types"]]
        self._tags = launch["launch_param_tags"]

    def __call__(self, *given: Any) -> None:
        values = [kind(getattr(each, "value", each)) for kind, each in zip(self._types, given, strict=False)]
        sizes = dict(zip(self._tags, given[len(values) :], strict=True))
        addresses = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        grid = (sizes["blockIdx.x"], sizes.get("blockIdx.y", 1), sizes["threadIdx.x"])
        shared_bytes = sizes.get("tirx.use_dyn_shared_memory", 0)
        self._run(addresses, *map(ctypes.c_int64, (*grid, shared_bytes)))
