"""A GPU's machine code as a library carries it: two members beside the object files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

_CODE, _FUNCTIONS = "device.cubin", "device.json"


class DeviceHalf(Protocol):
    """What a GPU's library holds beside the object files of its host's half."""

    def members(self) -> Mapping[str, bytes]:
        """Name and content of each file."""


@dataclass(frozen=True)
class DeviceCode:
    """Machine code of one architecture, and JSON that tells TVM's runtime how its functions are launched."""

    cubin: bytes
    functions: str

    def members(self) -> Mapping[str, bytes]:
        """Name and content of each file."""
        return {_CODE: self.cubin, _FUNCTIONS: self.functions.encode()}

    @classmethod
    def of_members(cls, members: Mapping[str, bytes]) -> "DeviceCode | None":
        """What files by name hold, None where there is no device code."""
        return cls(members[_CODE], members[_FUNCTIONS].decode()) if _CODE in members else None
