"""The host's side of a WebGPU kernel: a PrimFunc that checks shapes and launches, with the WGSL of what it launches.

Tensors have made-up addresses, which the engine knows: to launch is to call one function of its own with the shader's
name, the addresses, the numbers and the grid.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

from tvm import ir, tirx

from kvscape.artifact.shaders import Shader

LAUNCH = "kvscape.webgpu.launch"
SHADERS = "kvscape.shaders"
_BYTES = {"float32": 4, "float16": 2, "int32": 4, "uint8": 1}


@dataclass(frozen=True)
class Tensor:
    """A parameter: what the host passes for it, and its bytes, 0 where only a call knows."""

    name: str
    address: Any
    nbytes: int

    def read(self, element: str) -> "Binding":
        return Binding(self, element, False)

    def write(self, element: str) -> "Binding":
        return Binding(self, element, True)

    def skipping(self, nbytes: Any) -> "Tensor":
        """What lies behind the first bytes."""
        moved = tirx.call_intrin("handle", "tirx.handle_add_byte_offset", self.address, tirx.Cast("int64", nbytes))
        return Tensor(self.name, moved, 0)


@dataclass(frozen=True)
class Binding:
    """A tensor as a shader sees it: an array of WGSL's ``element``."""

    tensor: Tensor
    element: str
    writes: bool

    def declared(self, index: int) -> str:
        access = "read_write" if self.writes else "read"
        return f"@group(0) @binding({index}) var<storage, {access}> {self.tensor.name}: array<{self.element}>;"


@dataclass
class Host:
    """Collects parameters and launches of the kernel that ``key`` names; ``function`` is the result."""

    key: str
    _params: list[Any] = field(default_factory=list)
    _sizes: dict[str, Any] = field(default_factory=dict)
    _shaders: list[Shader] = field(default_factory=list)

    def size(self, name: str) -> Any:
        """A length that only a call knows, by name: equal names are equal lengths."""
        return self._sizes.setdefault(name, tirx.Var(name, "int64"))

    def tensor(self, name: str, shape: Sequence[int | str], dtype: str) -> Tensor:
        """The next parameter, a tensor."""
        sizes = [self.size(length) if isinstance(length, str) else tirx.IntImm("int64", length) for length in shape]
        buffer = tirx.decl_buffer(sizes, dtype, name)
        self._params.append(buffer)
        known = [length for length in shape if isinstance(length, int)]
        return Tensor(name, buffer.data, prod(known) * _BYTES[dtype] if len(known) == len(shape) else 0)

    def number(self, name: str) -> Any:
        """The next parameter, an integer."""
        self._params.append(tirx.Var(name, "int64"))
        return self._params[-1]

    def launch(
        self, source: str, bindings: Sequence[Binding], numbers: Sequence[tuple[str, Any]], grid: Sequence[Any]
    ) -> Any:
        """A statement: run the shader ``source`` on ``grid`` workgroups; it knows ``numbers`` by name."""
        name = f"{self.key}_{len(self._shaders)}"
        declared = [binding.declared(index) for index, binding in enumerate(bindings)]
        members = ", ".join(f"{each}: u32" for each, _ in numbers) or "none: u32"
        declared.append(f"struct Numbers {{ {members} }}")
        declared.append(f"@group(0) @binding({len(bindings)}) var<uniform> numbers: Numbers;")
        tensors = [binding.tensor for binding in bindings]
        writes, sizes = tuple(binding.writes for binding in bindings), tuple(tensor.nbytes for tensor in tensors)
        self._shaders.append(Shader(name, "\n".join([*declared, source]), writes, sizes, len(numbers)))
        width, height = (*grid, 1)[:2]
        integers = [_int64(value) for value in (*(value for _, value in numbers), width, height)]
        addresses = [tensor.address for tensor in tensors]
        return tirx.Evaluate(tirx.call_packed(LAUNCH, ir.StringImm(name), *addresses, *integers))

    def function(self, *body: Any) -> Any:
        """The PrimFunc that runs the statements of ``body`` on what was declared."""
        function = tirx.PrimFunc(self._params, in_order(body), ir.TupleType([]))
        texts = json.dumps([asdict(shader) for shader in self._shaders])
        return function.with_attrs({"tirx.noalias": True, "s_tir": True, SHADERS: texts})


def by_size(size: Any, choices: Sequence[tuple[int, Any]], otherwise: Any) -> Any:
    """The statement of the first choice whose limit ``size`` does not exceed."""
    for limit, statement in reversed(choices):
        otherwise = tirx.IfThenElse(size <= limit, statement, otherwise)
    return otherwise


def in_order(statements: Sequence[Any]) -> Any:
    """One statement of several."""
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))


def blocks(total: Any, each: int) -> Any:
    """How many pieces of ``each`` hold ``total``."""
    return -(-total // each) if isinstance(total, int) else tirx.floordiv(total + (each - 1), each)


def _int64(value: Any) -> Any:
    return tirx.IntImm("int64", value) if isinstance(value, int) else tirx.Cast("int64", value)
