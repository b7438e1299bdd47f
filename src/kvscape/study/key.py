"""Content keys: two measurements share a key exactly when one can stand for the other."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from kvscape.config import DesignPoint, adapter_name, cuda_index
from kvscape.quality import quality_point
from kvscape.study.model_facts import ModelFacts
from kvscape.study.space import Quality
from kvscape.subjects import find_subject
from kvscape.subjects.endpoint import KNOBS
from kvscape.version import __version__

# Parameters that older stores did not know: where they are not set, their keys hold.
_NEWER = (
    "precision",
    "calibrate",
    "num_requests",
    "request_rate",
    "concurrency",
    "duration_s",
    "lengths",
    "slo",
    "mixed_chunk_size",
    "prompt_lookup_tokens",
    *KNOBS,
)


def speed_key(point: DesignPoint, facts: ModelFacts | None, machine: str) -> str:
    """Key of memory and speed: they belong to a machine, and to the very library that ran."""
    return _digest("speed", point, facts, machine=machine, parameters=_without_model(point))


def quality_key(point: DesignPoint, facts: ModelFacts | None, quality: Quality) -> str:
    """Key of a perplexity: batch, chunk, context, threads and machine do not change it."""
    parameters = _without_model(quality_point(point, quality.settings))
    del parameters["threads"]
    scored = {**asdict(quality.settings), "text": quality.text.sha256}
    if reference := quality.reference_of(point):  # keys of older stores hold
        scored["reference"] = reference
    return _digest("quality", point, facts, parameters=parameters, scored=scored)


def _without_model(point: DesignPoint) -> dict[str, Any]:
    """All parameters but the model's name, which the hash of its weights stands for.

    Which of a machine's equal GPUs it was does not matter, nor what ``activation`` asks of a processor alone.
    """
    flat = point.flat()
    if point.subject == DesignPoint().subject and cuda_index(point.build.device) is not None:
        flat |= {"device": "cuda", "activation": None}
    elif adapter_name(point.build.device) is not None:
        flat |= {"device": "webgpu", "activation": None}
    unset = {name for name in _NEWER if not flat[name]}
    return {name: value for name, value in flat.items() if name not in {"model", *unset}}


def _digest(kind: str, point: DesignPoint, facts: ModelFacts | None, **rest: Any) -> str:
    content = {
        "kind": kind,
        "subject_version": find_subject(point.subject).version(),
        "kvscape_version": __version__,
        "weights": facts.weights_key if facts else point.build.model,  # a name where the build failed
        "library": facts.library_key if facts else None,
        **rest,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
