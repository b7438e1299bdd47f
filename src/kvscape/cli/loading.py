"""Open a model as the flags say, with a bar on stderr for what must be downloaded, converted or compiled."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kvscape.cli.chosen import ENDPOINT, Flags, build_config, endpoint_config, engine_fields, subject_name, workload
from kvscape.config import DesignPoint, EngineConfig

if TYPE_CHECKING:
    from kvscape.artifact import LibraryMetadata
    from kvscape.llm import LLM, Built


@contextmanager
def open_llm(flags: Flags) -> "Iterator[LLM]":
    """Load a model; raise a KvscapeError for flags that are wrong before anything is downloaded."""
    build, engine = build_config(flags), engine_fields(flags)
    from kvscape.hub import DownloadBar
    from kvscape.llm import LLM

    with DownloadBar() as progress:
        llm = LLM(
            **asdict(build),
            **engine,
            threads=flags.get("threads"),
            jit=flags["jit"],
            model_lib=flags.get("model_lib"),
            progress=progress,
        )
    with llm:
        yield llm


def design_point(flags: Flags) -> DesignPoint:
    """The point that the flags say; its context is the model's own where none is given and 2048 is too long."""
    name = subject_name(flags)
    if name == ENDPOINT:
        return endpoint_point(flags)
    return built_point(flags)[0] if name == DesignPoint().subject else _peers_point(flags)


def built_point(flags: Flags) -> "tuple[DesignPoint, Built]":
    """kvscape's point that the flags say, and its artefact with a library."""
    build, engine, work = build_config(flags), engine_fields(flags), workload(flags)
    from kvscape.hub import DownloadBar
    from kvscape.llm.build import build_artifact, find_artifact
    from kvscape.subjects import find_local

    find_local(DesignPoint().subject).check(DesignPoint(build, workload=work, server=endpoint_config(flags)))

    model_lib = flags.get("model_lib")
    defaults = library_metadata(model_lib).overrides if model_lib else {}
    with DownloadBar() as progress:
        manifest = find_artifact(build, progress).manifest
        fitted = EngineConfig.chosen({**defaults, **engine}, manifest.model)  # before anything is compiled
        built = build_artifact(build, flags["jit"], model_lib, kv_dtype=fitted.kv_dtype, progress=progress)
    return DesignPoint(build, fitted, work, threads=flags.get("threads")), built


def _peers_point(flags: Flags) -> DesignPoint:
    """Another subject's point, checked and prepared."""
    build, engine, work = build_config(flags), engine_fields(flags), workload(flags)
    from kvscape.hub import DownloadBar
    from kvscape.subjects import find_local

    name = subject_name(flags)
    subject = find_local(name)
    subject.check(DesignPoint(build, EngineConfig(**engine), work, name, server=endpoint_config(flags)))
    with DownloadBar() as progress:
        fitted = EngineConfig.chosen(engine, subject.shape(build, progress))
    point = DesignPoint(build, fitted, work, name, flags.get("threads"))
    prepare(point, flags)
    return point


def endpoint_point(flags: Flags) -> DesignPoint:
    """A point of a server: its model is what the server calls it, where no other name is given."""
    build, engine, work = build_config(flags), engine_fields(flags), workload(flags)
    from kvscape.subjects.endpoint import API_KEY, check_endpoint, served_model

    server, threads = endpoint_config(flags), flags.get("threads")
    point = DesignPoint(build, EngineConfig(**engine), work, ENDPOINT, threads, server)
    check_endpoint(point)
    if (key := flags.get("api_key")) is not None:
        os.environ[API_KEY] = key
    return point if flags.get("model") else replace(point, build=replace(build, model=served_model(point)))


def prepare(point: DesignPoint, flags: Flags) -> None:
    """Make what is missing to load a point; raise a KvscapeError for one that cannot be, before that."""
    from kvscape.hub import DownloadBar
    from kvscape.llm.build import build_artifact
    from kvscape.subjects import find_local

    subject = find_local(point.subject)
    subject.check(point)
    with DownloadBar() as progress:
        point.engine.fitted(subject.shape(point.build, progress))
        if subject.prepare is not None:
            subject.prepare(point.build, progress)
        else:
            library, kv_dtype = flags["model_lib"], point.engine.kv_dtype
            build_artifact(point.build, flags["jit"], library, kv_dtype=kv_dtype, progress=progress)


def done_jit(flags: Flags) -> str:
    """The policy that is left once a point is built: what ``redo`` asks for is done."""
    return "on" if flags["jit"] == "redo" else str(flags["jit"])


def library_metadata(path: Path) -> "LibraryMetadata":
    """What a compiled library says of itself; raise ArtifactError when it cannot be loaded."""
    from kvscape.engine.devices import library

    return library.library_metadata(path)
