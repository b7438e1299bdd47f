"""Ray: each node that has the resource ``kvscape:cpu`` is a slot of a study. The one file that imports Ray."""

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

from kvscape.config import DesignPoint
from kvscape.errors import ConfigError, DeviceError
from kvscape.results import PerplexityRecord, Record
from kvscape.study.builds import Library, library
from kvscape.study.child import run_child
from kvscape.study.executor import Failed, ProcessExecutor, read_result, unmeasured, unscored
from kvscape.study.flags import compile_arguments
from kvscape.study.model_facts import ModelFacts
from kvscape.study.node import Hello, Means, Node
from kvscape.study.shipped import Made, Parcel, Shelf
from kvscape.study.slot import SlotLostError
from kvscape.study.space import Quality
from kvscape.version import __version__

RESOURCE = "kvscape:cpu"
_REACH_S = 5.0
# A node that another study has is waited for where it is the only one.
_OTHERS_S = 30.0
_START = f"start its nodes with: ray start --resources='{{\"{RESOURCE}\": 1}}' ..."


@dataclass(frozen=True)
class Builder(ProcessExecutor):
    """Builds here, and knows what is to be sent."""

    made: dict[Library, Made] = field(default_factory=dict)

    def build(self, point: DesignPoint) -> ModelFacts | Failed:
        command = self.command([*compile_arguments(point), "--json"])
        made = read_result(run_child(command, self.build_timeout_s), Made.from_json)
        if isinstance(made, Failed):
            return made
        self.made[library(point)] = made
        return made.facts


@dataclass(eq=False)
class RaySlot:
    """One node, by way of an actor on it. ``sent`` are the files that it got from here.

    Equal machines have one fingerprint; the record's ``environment.node`` says which of them it was.
    """

    actor: Any
    builder: Builder
    hello: Hello
    node_id: str
    sent: list[str] = field(default_factory=list)
    _facts: dict[Library, ModelFacts] = field(default_factory=dict)
    _asking: Lock = field(default_factory=Lock)
    _is_closed: bool = False

    @property
    def name(self) -> str:
        return f"{self.hello.name} {self.node_id[:6]}"

    @property
    def machine(self) -> str:
        return self.hello.machine

    @property
    def available_bytes(self) -> int:
        return self.hello.available_bytes

    def build(self, point: DesignPoint) -> ModelFacts | Failed:
        parcel = self.builder.made[library(point)].parcel
        try:
            if parcel is not None:
                self._ship(parcel)
            facts: ModelFacts | Failed = self._ask(self.actor.build, point, _shelf(parcel))
        except _NodeError as error:
            return Failed("failed", str(error))
        if isinstance(facts, ModelFacts):
            self._facts[library(point)] = facts
        return facts

    def _ship(self, parcel: Parcel) -> None:
        """Send what the node lacks, piece by piece, so that a large model needs little memory on the way."""
        shelf = Shelf(parcel.name)
        for file in self._ask(self.actor.missing, shelf, dict(parcel.files)):
            for start, chunk in parcel.chunks(file):
                self._ask(self.actor.write, shelf, file, start, chunk)
            self._ask(self.actor.finish, shelf, file)
            self.sent.append(file)

    def bench(self, point: DesignPoint) -> Record:
        own = library(point)
        try:
            shelf = _shelf(self.builder.made[own].parcel)
            record: Record = self._ask(self.actor.bench, point, shelf, self._facts[own])
        except _NodeError as error:
            return unmeasured(point, Failed("failed", str(error)))
        return replace(record, environment={**record.environment, "node": self.name})

    def perplexity(self, point: DesignPoint, quality: Quality) -> PerplexityRecord:
        text = quality.choice.text.read_bytes() if quality.choice.text else None
        # The reference of a divergence is another quantization: the node makes both from the model.
        shelf = None if quality.reference_of(point) else _shelf(self.builder.made[library(point)].parcel)
        try:
            record: PerplexityRecord = self._ask(self.actor.perplexity, point, shelf, quality, text)
        except _NodeError as error:
            return unscored(point, quality, Failed("failed", str(error)))
        return replace(record, environment={**record.environment, "node": self.name})

    def close(self) -> None:
        """End what runs there; return when nobody waits for it any more."""
        import ray

        self._is_closed = True
        ray.kill(self.actor)
        with self._asking:
            pass

    def _ask(self, method: Any, *arguments: Any) -> Any:
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            with self._asking:
                if self._is_closed:
                    raise SlotLostError(f"node {self.name} is left")
                return ray.get(method.remote(*arguments))
        except RayTaskError as error:  # the node lives, what it did went wrong
            raise _NodeError(f"{self.name}: {error.cause}") from None
        except RayError as error:
            raise SlotLostError(f"node {self.name} has gone ({type(error).__name__})") from None


class _NodeError(Exception):
    """What went wrong on a node that lives."""


def _shelf(parcel: Parcel | None) -> Shelf | None:
    return None if parcel is None else Shelf(parcel.name)


@dataclass(frozen=True)
class RayCluster:
    """``builder`` makes artefacts here; ``slots`` measure."""

    builder: Builder
    slots: Sequence[RaySlot]


@contextmanager
def ray_cluster(address: str, means: Means, waits: Callable[[], None] = lambda: None) -> Iterator[RayCluster]:
    """Connect, and start an actor on each node that takes part; they end with the block.

    ``waits`` is called once where all nodes are busy with other studies.
    Raises ConfigError without Ray, DeviceError when nothing answers there or no node can be used.
    """
    ray = _connected(address)
    builder = Builder(means.timeout_s, command=means.command)
    slots: list[RaySlot] = []
    try:
        slots = _slots(ray, means, builder, waits)
        yield RayCluster(builder, slots)
    finally:
        for slot in slots:
            slot.close()
        ray.shutdown()


def _connected(address: str) -> Any:
    try:
        import ray
    except ImportError:
        raise ConfigError("--ray needs Ray", "it is not installed", "pip install 'kvscape[ray]'") from None
    _reach(address)
    try:
        ray.init(address=address, namespace="kvscape", log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises many kinds
        raise _no_cluster(address, f"{type(error).__name__}: {str(error).strip().splitlines()[0]}") from None
    return ray


def _reach(address: str) -> None:
    """Ray would try for minutes."""
    host, found, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not found or not port.isdigit():
        raise ConfigError(f"--ray {address}", "this is no address", "give HOST:PORT, or auto")
    try:
        socket.create_connection((host, int(port)), _REACH_S).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from None


def _no_cluster(address: str, why: str) -> DeviceError:
    return DeviceError(f"no Ray cluster answers at {address}", why, "look at 'ray status' there, or leave out --ray")


def _slots(ray: Any, means: Means, builder: Builder, waits: Callable[[], None]) -> list[RaySlot]:
    """Those nodes whose actors answer; of several, not those that another study has."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get(RESOURCE)]
    if not nodes:
        raise DeviceError("no node of the cluster can measure", f"none has the resource {RESOURCE}", _START)
    actors = [_actor(ray, node, means) for node in nodes]
    calls = [actor.hello.remote() for actor in actors]
    ready, _ = ray.wait(calls, num_returns=len(calls), timeout=_OTHERS_S)
    if not ready:
        waits()
        ready, _ = ray.wait(calls, num_returns=1)
    slots, refused = [], ""
    for node, actor, call in zip(nodes, actors, calls, strict=True):
        hello = _greeting(ray, call) if call in ready else "another study has it"
        if isinstance(hello, Hello):
            slots.append(RaySlot(actor, builder, hello, node["NodeID"]))
        else:
            ray.kill(actor)
            refused = f"{node['NodeManagerHostname']}: {hello}"
    if not slots:
        raise DeviceError("no node of the cluster can measure", refused, "install the same kvscape on every node")
    return slots


def _actor(ray: Any, node: dict[str, Any], means: Means) -> Any:
    """It takes all cores of its node: other work of the cluster would disturb what is measured."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    options = {
        "num_cpus": node["Resources"].get("CPU", 0),
        "resources": {RESOURCE: 1},
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
    }
    return ray.remote(Node).options(**options).remote(means)


def _greeting(ray: Any, call: Any) -> Hello | str:
    """What a node says of itself, or why it cannot be used."""
    from ray.exceptions import RayError

    try:
        hello = ray.get(call)
    except RayError as error:
        return " ".join(str(error).split())[-200:]
    if hello.version != __version__:
        return f"it has kvscape {hello.version}, here is {__version__}"
    return hello if isinstance(hello, Hello) else "it gave no answer"
