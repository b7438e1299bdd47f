"""``python -m kvscape.compiler ARTIFACT OUTPUT TARGET ACTIVATION``: what the engine's process runs to get a library."""

import argparse
import sys
from pathlib import Path

from kvscape.absent import absent
from kvscape.artifact import Artifact
from kvscape.compiler.target import find_any_target
from kvscape.config import EngineConfig, parse_overrides
from kvscape.errors import KvscapeError

try:
    with absent("torch"):
        from kvscape.compiler.build import LibrarySpec, compile_library
except (ImportError, AttributeError):  # so fails TVM's Python where its library is the runtime's
    why = "TVM's runtime is here without its compiler"
    print(KvscapeError("cannot compile", why, "compile on another machine, and give --model-lib"), file=sys.stderr)
    sys.exit(2)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kvscape.compiler")
    parser.add_argument("artifact", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("target")
    parser.add_argument("activation")
    parser.add_argument("--overrides", default="")
    parser.add_argument("--kv-dtype", default=EngineConfig.kv_dtype)
    parser.add_argument("--debug-dump", type=Path)
    arguments = parser.parse_args()
    try:
        manifest = Artifact(arguments.artifact).manifest
        formats = {name: info.format for name, info in manifest.tensors.items() if len(info.shape) > 1}
        target = find_any_target(arguments.target)
        spec = LibrarySpec(
            manifest.model,
            formats,
            target,
            target.activation(arguments.activation),
            parse_overrides(arguments.overrides),
            target.library_kv_dtypes(arguments.kv_dtype),
        )
        compile_library(spec, arguments.output, arguments.debug_dump)
    except KvscapeError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
