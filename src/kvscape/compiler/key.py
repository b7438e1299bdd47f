"""The keys of compiled libraries and kernels: everything that changes the code, by value. Imports no TVM."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

from kvscape.compiler.target import Target
from kvscape.config import KV_DTYPES, ModelConfig

_PACKAGE = Path(__file__).parent.parent
_SOURCES = ("compiler", "models", "quantization/layouts", "quantization/format.py", "config/precision.py")


@cache
def sources_sha256() -> str:
    """Hash of the sources that kernels, passes and models are made from."""
    digest = hashlib.sha256()
    for name in _SOURCES:
        root = _PACKAGE / name
        files = (
            [path for path in sorted(root.rglob("*")) if path.suffix in (".py", ".cuh", ".wgsl")]
            if root.is_dir()
            else [root]
        )
        for path in files:
            digest.update(path.relative_to(_PACKAGE).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def library_key(
    config: ModelConfig,
    formats: Mapping[str, str],
    target: Target,
    activation: str,
    overrides: Mapping[str, int] | None = None,
    kv_dtypes: tuple[str, ...] = KV_DTYPES,
) -> str:
    """Return ``<target>-<hash>``; libraries with equal keys are the same."""
    facts = {
        **_compiler(target),
        "model": config.to_json(),
        "formats": dict(sorted(formats.items())),
        "activation": activation,
        "kv_dtypes": kv_dtypes,
        "overrides": dict(sorted((overrides or {}).items())),
    }
    return f"{target.name}-{activation}-{_digest(facts)[:16]}"


def kernel_key(target: Target, facts: Sequence[str]) -> str:
    """The key of an object file with one kernel; ``facts`` are what it is made from."""
    return _digest({**_compiler(target), "isa": target.name, "facts": list(facts)})


def _compiler(target: Target) -> dict[str, object]:
    """What makes code of anything."""
    return {
        "tvm": version("apache-tvm"),
        "tvm_ffi": version("apache-tvm-ffi"),
        "sources": sources_sha256(),
        "target": dict(target.tvm),
    }


def _digest(facts: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
