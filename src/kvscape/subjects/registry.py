"""Subjects by name. Adding one is a file and a line here."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvscape.analysis.memory import Memory, Workspace
from kvscape.config import BuildConfig, DesignPoint, EngineConfig, ModelConfig
from kvscape.errors import ConfigError, near_match
from kvscape.hub import Progress
from kvscape.subjects import endpoint, kvscape_subject, llamacpp, transformers
from kvscape.subjects.subject import Subject

Load = Callable[[DesignPoint, str, Path | None], Subject]
Predict = Callable[[ModelConfig, EngineConfig, int, Mapping[str, Workspace]], Memory]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How a subject is checked, and the version that its speed belongs to.

    ``check`` raises a KvscapeError for what the subject does not have, before anything is downloaded. ``lacks`` are the
    parameters that it does not have at all. An entry that is no more than this is a server: what it runs is not known.
    """

    version: Callable[[], str]
    check: Callable[[DesignPoint], None]
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LocalEntry(Entry):
    """How a subject that runs in this process is prepared and loaded.

    ``shape`` downloads a model and says its shape. ``prepare`` makes what ``load`` needs and says what it is, as
    ``kvscape compile --json`` prints it; None where the compiler itself does. ``predict`` is the memory of a point.
    """

    shape: Callable[[BuildConfig, Progress], ModelConfig]
    prepare: Callable[[BuildConfig, Progress], dict[str, Any]] | None
    predict: Predict
    load: Load


ENDPOINT = "endpoint"
SUBJECTS: Mapping[str, Entry] = {
    "kvscape": LocalEntry(
        version=kvscape_subject.version,
        check=kvscape_subject.check_point,
        shape=kvscape_subject.source_model,
        prepare=None,
        predict=kvscape_subject.predict,
        load=kvscape_subject.load_kvscape,
        lacks=kvscape_subject.LACKED,
    ),
    "llamacpp": LocalEntry(
        version=llamacpp.package_version,
        check=llamacpp.check_point,
        shape=llamacpp.source_model,
        prepare=llamacpp.prepare_llamacpp,
        predict=llamacpp.predict,
        load=llamacpp.load_llamacpp,
        lacks=llamacpp.LACKED,
    ),
    "transformers": LocalEntry(
        version=transformers.package_version,
        check=transformers.check_point,
        shape=transformers.source_model,
        prepare=transformers.prepare_transformers,
        predict=transformers.predict,
        load=transformers.load_transformers,
        lacks=transformers.LACKED,
    ),
    ENDPOINT: Entry(version=kvscape_subject.version, check=endpoint.check_endpoint, lacks=endpoint.LACKED),
}


def find_subject(name: str) -> Entry:
    """Raise ConfigError with the near match of an unknown name."""
    if name not in SUBJECTS:
        raise ConfigError(f"unknown subject {name!r}", "", near_match(name, SUBJECTS))
    return SUBJECTS[name]


def find_local(name: str) -> LocalEntry:
    """A subject that runs in this process; raise ConfigError for another one."""
    entry = find_subject(name)
    if not isinstance(entry, LocalEntry):
        why = "its server has the model"
        raise ConfigError(f"the subject {name} has nothing to build or to score here", why, "use kvscape bench")
    return entry


def is_remote(point: DesignPoint) -> bool:
    """Whether a point is measured on a server, of which nothing is known."""
    return not isinstance(find_subject(point.subject), LocalEntry)


def loaded_subject(
    point: DesignPoint, jit: str = "on", model_lib: Path | None = None
) -> AbstractContextManager[Subject]:
    """Load a design point; the subject is closed at the end of the ``with`` block."""
    return closing(find_local(point.subject).load(point, jit, model_lib))
