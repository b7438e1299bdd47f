"""What ``kvscape compile --subject transformers`` does: the model is downloaded, and said what it is."""

from dataclasses import asdict
from typing import Any

from kvscape.analysis.memory import Workspace
from kvscape.config import BuildConfig, DesignPoint
from kvscape.hub import Progress, silent
from kvscape.subjects.transformers.library import find_library, library_key
from kvscape.subjects.transformers.memory import bits_per_weight, weights_bytes
from kvscape.subjects.transformers.names import KV_BYTES, check_point
from kvscape.subjects.transformers.source import find_source, weights_key


def prepare_transformers(build: BuildConfig, progress: Progress = silent) -> dict[str, Any]:
    """Return the facts that a study must know of a build; nothing is written, weights are rounded when they are loaded.

    There is no formula of the workspace: ``predict`` estimates it.
    """
    check_point(DesignPoint(build))
    find_library()
    source = find_source(build, progress)
    return {
        "artifact": source.name,
        "library_key": library_key(),
        "quantization": build.quantization,
        "bits_per_weight": bits_per_weight(source.config, build),
        "weights_bytes": weights_bytes(source.config, build),
        "weights_key": weights_key(source, build),
        "model": source.config.to_json(),
        "workspaces": {name: asdict(Workspace(0, 0, 0, 0)) for name in KV_BYTES},
    }
