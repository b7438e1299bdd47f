"""Shaders as a library carries them: one member beside the object files, JSON."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

PART_BYTES = 128 << 20
"""What every WebGPU device binds at once: larger weights are bound, and lie, in parts."""

_MEMBER = "device.wgsl.json"


@dataclass(frozen=True)
class Shader:
    """A kernel in WGSL, whose entry is ``main``.

    Binding i is its i-th tensor: ``writes`` says whether it is written, ``sizes`` how many bytes it has, 0 where only a
    call knows. The binding behind them holds ``numbers`` uniform u32.
    """

    name: str
    text: str
    writes: tuple[bool, ...]
    sizes: tuple[int, ...]
    numbers: int

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Shader":
        return cls(raw["name"], raw["text"], tuple(raw["writes"]), tuple(raw["sizes"]), raw["numbers"])


@dataclass(frozen=True)
class Shaders:
    """All that the host's half of a library launches, by name."""

    of: Mapping[str, Shader]

    def members(self) -> Mapping[str, bytes]:
        """Name and content of each file."""
        return {_MEMBER: json.dumps([asdict(shader) for shader in self.of.values()]).encode()}

    @classmethod
    def named(cls, shaders: Iterable[Shader]) -> "Shaders":
        return cls({shader.name: shader for shader in shaders})

    @classmethod
    def of_members(cls, members: Mapping[str, bytes]) -> "Shaders | None":
        """What files by name hold, None where there are no shaders."""
        if _MEMBER not in members:
            return None
        return cls.named(map(Shader.from_json, json.loads(members[_MEMBER])))


def part_rows(rows: int, nbytes: int) -> int:
    """Of a tensor of ``rows`` first-axis rows, how many lie together in one part: all that fit into ``PART_BYTES``."""
    return rows if nbytes <= PART_BYTES else max(1, PART_BYTES * rows // nbytes)
