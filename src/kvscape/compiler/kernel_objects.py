"""The machine code of kernels, an object file each: from the cache, or compiled on all cores and kept there.

Kernels do not change with the rest of a library: attention, four fifths of a compilation, is the same for every
quantization of a model.
"""

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tvm
from tvm.target import Target as TvmTarget

from kvscape.analysis.cpu import default_threads
from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.key import kernel_key
from kvscape.compiler.object_cache import ObjectCache
from kvscape.compiler.pipeline import lowering
from kvscape.compiler.stand_ins import KernelOf
from kvscape.compiler.target import Target
from kvscape.files import write_text


def kernel_objects(kernels: Mapping[str, KernelOf], target: Target, cache: ObjectCache) -> dict[str, bytes]:
    """The object file of each kernel, by its name, in the names' order."""
    keys = {name: kernel_key(target, kernel_facts(name, *kernel)) for name, kernel in sorted(kernels.items())}
    found = {name: cache.find(key) for name, key in keys.items()}
    made = _compiled({name: kernels[name] for name, code in found.items() if code is None}, target)
    cache.add({keys[name]: code for name, code in made.items()})
    return {name: made[name] if code is None else code for name, code in found.items()}


def kernel_facts(name: str, kernel: Kernel, op: Operator) -> list[str]:
    """What the machine code of a kernel is made from, its name in the object file included."""
    return [name, kernel.key, op.name, *op.facts]


def _compiled(kernels: Mapping[str, KernelOf], target: Target) -> dict[str, bytes]:
    """A kernel is read by Python, one after the other, while LLVM compiles others."""
    with ThreadPoolExecutor(default_threads()) as pool:
        codes = {
            name: pool.submit(object_file, name, kernel.function(), target) for name, (kernel, _) in kernels.items()
        }
        return {name: code.result() for name, code in codes.items()}


def object_file(name: str, function: Any, target: Target) -> bytes:
    """The object file of one TIR function."""
    mod = tvm.IRModule({name: function.with_attr("global_symbol", name)})
    with lowering():
        built = tvm.tirx.build(mod, target=TvmTarget(dict(target.tvm)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.o"
        built.write_to_file(str(path))
        return path.read_bytes()


def dump_kernels(kernels: Mapping[str, KernelOf], folder: Path) -> None:
    """Write each kernel's TIR as ``<name>.py``."""
    for name, (kernel, _) in kernels.items():
        write_text(folder / f"{name}.py", str(kernel.function().script(show_meta=False)))
