"""What is known of every build of a space: each is made once."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from kvscape.config import (
    GPU_KV_DTYPES,
    KV_DTYPES,
    BuildConfig,
    DesignPoint,
    is_gpu,
    library_kv_dtypes,
)
from kvscape.results import current_environment
from kvscape.study.executor import Executor, Failed
from kvscape.study.key import quality_key, speed_key
from kvscape.study.model_facts import ModelFacts
from kvscape.study.progress import StudyProgress
from kvscape.study.space import Space
from kvscape.study.store import Keys, Store
from kvscape.subjects import find_subject, is_remote
from kvscape.version import __version__

# Whose it is, the build, and the KV precisions of its library: the common ones, or one pair.
Library = tuple[str, BuildConfig, tuple[str, ...]]


def library(point: DesignPoint) -> Library:
    return point.subject, point.build, library_kv_dtypes(point.engine.kv_dtype, _known(point.build.device))


def _known(device: str) -> tuple[str, ...]:
    return GPU_KV_DTYPES if is_gpu(device) else KV_DTYPES


def first_of_each(points: Iterable[DesignPoint]) -> dict[Library, DesignPoint]:
    """A point of each library that the points need; a server has its own."""
    firsts: dict[Library, DesignPoint] = {}
    for point in (one for one in points if not is_remote(one)):
        firsts.setdefault(library(point), point)
    return firsts


class Builds:
    """Facts of libraries, or why there are none."""

    def __init__(self, made: Mapping[Library, ModelFacts | Failed]) -> None:
        self._made = made

    def __getitem__(self, point: DesignPoint) -> ModelFacts | Failed | None:
        """None of a server, for which there is nothing to build."""
        return None if is_remote(point) else self._made[library(point)]

    def joined(self, others: Mapping[Library, ModelFacts]) -> "Builds":
        """These and others."""
        return Builds({**self._made, **others})

    def facts(self, point: DesignPoint) -> ModelFacts | None:
        made = self[point]
        return None if isinstance(made, Failed) else made


def make_builds(points: Iterable[DesignPoint], executor: Executor, progress: StudyProgress, store: Store) -> Builds:
    """Make every build that the points need, and note what is known of it."""
    made = {own: _build(point, executor, progress) for own, point in first_of_each(points).items()}
    for own, facts in made.items():
        if isinstance(facts, ModelFacts) and store.build(_key(own)) != facts:
            store.put_build(_key(own), facts)
    return Builds(made)


def known_builds(points: Iterable[DesignPoint], executor: Executor, progress: StudyProgress, store: Store) -> Builds:
    """What was noted of the builds when they were made last; only those that never were are made now."""
    firsts = first_of_each(points)
    noted = {own: facts for own in firsts if (facts := store.build(_key(own))) is not None}
    rest = make_builds((point for own, point in firsts.items() if own not in noted), executor, progress, store)
    return rest.joined(noted)


def study_keys(space: Space, builds: Builds, machine: str | None = None) -> dict[DesignPoint, Keys]:
    """The speed and the quality key of every point of a space, on this machine or another one."""
    quality, devices = space.quality, {point.build.device for point in space.points}
    machines = {device: machine or current_environment(device).machine for device in devices}
    return {
        point: (
            speed_key(point, builds.facts(point), machines[point.build.device]),
            None if quality is None else quality_key(point, builds.facts(point), quality),
        )
        for point in space.points
    }


def _build(point: DesignPoint, executor: Executor, progress: StudyProgress) -> ModelFacts | Failed:
    progress.begin(f"compile {point.build.model} {point.build.quantization}")
    made = executor.build(point)
    progress.end(made.status if isinstance(made, Failed) else "ok", made.reason if isinstance(made, Failed) else "")
    return made


def _key(own: Library) -> str:
    subject, build, kv_dtypes = own
    version = find_subject(subject).version()
    machine = current_environment(build.device).machine
    return json.dumps([subject, version, __version__, machine, asdict(build), kv_dtypes], sort_keys=True)
