"""The host's side of a CUDA kernel: a PrimFunc that checks shapes and launches, with the C++ text of what it launches.

The launched functions are not linked with it: they are compiled together with those of the whole library
(compiler/device_code.py), and the host finds them by name among the modules that its own imports.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tvm import ir, tirx

DEVICE_CODE = "kvscape.device_code"
_GRID = ("blockIdx.x", "blockIdx.y")
_POINTERS = {"float32": "float", "float16": "u16", "int32": "int", "uint8": "u8"}
_NUMBERS = {"int": "int32", "i64": "int64", "float": "float32"}


@dataclass(frozen=True)
class Argument:
    """A parameter of a launched function: its C++ type and name, and what the host passes."""

    ctype: str
    name: str
    value: Any

    @property
    def passed_as(self) -> str:
        return "handle" if "*" in self.ctype else _NUMBERS[self.ctype]

    @property
    def converted(self) -> Any:
        if self.passed_as == "handle":
            return self.value
        if self.passed_as == "float32":
            return tirx.FloatImm("float32", self.value)
        return (
            tirx.Cast(self.passed_as, tirx.convert(self.value))
            if not isinstance(self.value, int)
            else tirx.IntImm(self.passed_as, self.value)
        )


@dataclass
class Host:
    """Collects parameters and launches of the kernel that ``key`` names; ``function`` is the result."""

    key: str
    _params: list[Any] = field(default_factory=list)
    _sizes: dict[str, Any] = field(default_factory=dict)
    _launches: list[dict[str, Any]] = field(default_factory=list)

    def size(self, name: str) -> Any:
        """A length that only a call knows, by name: equal names are equal lengths."""
        return self._sizes.setdefault(name, tirx.Var(name, "int64"))

    def tensor(self, name: str, shape: Sequence[int | str], dtype: str) -> Argument:
        """The next parameter, a tensor; may begin anywhere in its memory."""
        offset = tirx.Var(f"{name}_offset", "int64")
        sizes = [self.size(length) if isinstance(length, str) else tirx.IntImm("int64", length) for length in shape]
        buffer = tirx.decl_buffer(sizes, dtype, name, elem_offset=offset, offset_factor=1)
        self._params.append(buffer)
        zeros = [tirx.IntImm("int64", 0)] * len(sizes)
        address = tirx.call_intrin("handle", "tirx.address_of", tirx.BufferLoad(buffer, zeros))
        return Argument(f"{_POINTERS[dtype]}*", name, address)

    def number(self, name: str) -> Any:
        """The next parameter, an integer."""
        self._params.append(tirx.Var(name, "int64"))
        return self._params[-1]

    def launch(
        self,
        call: str,
        arguments: Sequence[Argument],
        grid: Sequence[Any],
        threads: int,
        shared_bytes: int = 0,
        together: int = 1,
    ) -> Any:
        """A statement: run the C++ ``call`` on ``grid`` blocks of ``threads``, and nothing for no blocks.

        A processor has registers for ``together`` blocks at least.
        """
        name = f"{self.key}_{len(self._launches)}"
        parameters = ", ".join(f"{each.ctype} {each.name}" for each in arguments)
        bounds = f"__launch_bounds__({threads}, {together})"
        tags = [*_GRID[: len(grid)], "threadIdx.x", *(["tirx.use_dyn_shared_memory"] if shared_bytes else [])]
        self._launches.append(
            {
                "name": name,
                "text": f'extern "C" __global__ void {bounds} {name}({parameters}) {{ {call}; }}',
                "arg_types": [each.passed_as for each in arguments],
                "launch_param_tags": tags,
            }
        )
        extent = [tirx.Cast("int64", tirx.convert(blocks)) for blocks in grid]
        shape = [
            *extent,
            tirx.IntImm("int64", threads),
            *([tirx.IntImm("int64", shared_bytes)] if shared_bytes else []),
        ]
        run = tirx.Evaluate(tirx.call_packed(name, *(each.converted for each in arguments), *shape))
        # TVM's runtime takes a grid of no blocks for one of one block.
        return run if isinstance(grid[0], int) else tirx.IfThenElse(extent[0] > 0, run, None)

    def function(self, body: Any) -> Any:
        """The PrimFunc that runs ``body`` on what was declared."""
        function = tirx.PrimFunc(self._params, body, ir.TupleType([]))
        return function.with_attrs({"tirx.noalias": True, "s_tir": True, DEVICE_CODE: json.dumps(self._launches)})


def by_size(size: Any, choices: Sequence[tuple[int, Any]], otherwise: Any) -> Any:
    """The statement of the first choice whose limit ``size`` does not exceed."""
    for limit, statement in reversed(choices):
        otherwise = tirx.IfThenElse(size <= limit, statement, otherwise)
    return otherwise


def blocks(total: Any, each: int) -> Any:
    """How many pieces of ``each`` hold ``total``."""
    return tirx.floordiv(total + (each - 1), each)
