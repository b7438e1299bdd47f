"""What ``kvscape compile --subject llamacpp`` does: the file is made, and said what it is."""

from dataclasses import asdict
from typing import Any

from kvscape.analysis.memory import Workspace
from kvscape.config import BuildConfig, DesignPoint
from kvscape.hub import Progress, silent
from kvscape.subjects.llamacpp.library import PACKAGE, find_library, package_version
from kvscape.subjects.llamacpp.model_file import find_model_file
from kvscape.subjects.llamacpp.names import KV_TYPES, check_point


def prepare_llamacpp(build: BuildConfig, progress: Progress = silent) -> dict[str, Any]:
    """Download and quantize what is missing; return the facts that a study must know of a build.

    There is no formula of the workspace: ``predict`` estimates it.
    """
    check_point(DesignPoint(build))
    library, file = find_library(), find_model_file(build, progress)
    return {
        "artifact": file.path,
        "library_key": f"{PACKAGE} {package_version()} {' '.join(library.features)}",
        "quantization": build.quantization,
        "weights_bytes": file.weights_bytes,
        "weights_key": file.key,
        "model": file.model.to_json(),
        "workspaces": {name: asdict(Workspace(0, 0, 0, 0)) for name in KV_TYPES},
    }
