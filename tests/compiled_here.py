"""Libraries of tests: compiled in their own process, with the one KV precision asked for, in a third of the time."""

from pathlib import Path

import pytest

from built_tiny import matrix_formats
from kvscape.artifact import Artifact
from kvscape.compiler.build import LibrarySpec, compile_library
from kvscape.compiler.target import CpuTarget, find_target
from kvscape.config import KVPrecision
from kvscape.llm import build
from kvscape.llm.compile_process import compile_in_child


def compiles_here(patch: pytest.MonkeyPatch) -> None:
    """Let ``LLM`` compile so; what a test has put in the place of the compiler's process stays."""
    patch.setattr(CpuTarget, "library_kv_dtypes", lambda _, kv_dtype: _alone(kv_dtype))
    if vars(build)["compile_in_child"] is compile_in_child:
        patch.setattr(build, "compile_in_child", _compile)


def _compile(
    artifact: Path, target: str, activation: str, overrides: dict[str, int], output: Path, kv_dtype: str
) -> None:
    converted = Artifact(artifact)
    formats = matrix_formats(converted)
    spec = LibrarySpec(converted.manifest.model, formats, find_target(target), activation, overrides, _alone(kv_dtype))
    compile_library(spec, output)


def _alone(kv_dtype: str) -> tuple[str, ...]:
    return (KVPrecision.parse(kv_dtype).name,)
