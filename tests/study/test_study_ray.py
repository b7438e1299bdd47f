"""A study on a Ray cluster of two nodes on this host, each a raylet with a cache of its own."""

import gc
import importlib.util
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from fake_kvscape import BLOCKED
from run_fake_study import FAKE, Silent

from kvscape.config import DesignPoint
from kvscape.errors import ConfigError, DeviceError
from kvscape.quality import Settings, Text
from kvscape.results import Record
from kvscape.study import Quality, Space, Store, Study
from kvscape.study.node import Means
from kvscape.study.ray_cluster import RESOURCE, RayCluster, ray_cluster
from kvscape.study.search.search import shuffled

HAS_RAY = importlib.util.find_spec("ray") is not None
pytestmark = [
    pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install 'kvscape[ray]'"),
    # Ray leaves sockets and processes to the end of its own.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
SOURCES = Path(__file__).parents[2] / "src"
CONTEXTS = (256, 512, 768, 1024)


@dataclass(frozen=True)
class Two:
    """A head that measures nothing, and two nodes; ``nodes`` are those that can be killed."""

    cluster: Any
    nodes: dict[str, Any]
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self, name: str) -> None:
        """Start a node with an environment, and so a cache, of its own."""
        home, before = self.folder / name, dict(os.environ)
        os.environ.update(
            KVSCAPE_HOME=str(home),
            FAKE_LOG=str(self.log),
            FAKE_PIPE=str(self.folder / "pipe"),
            PYTHONPATH=str(SOURCES),
        )
        try:
            self.nodes[name] = self.cluster.add_node(
                num_cpus=1, resources={RESOURCE: 1}, object_store_memory=80 << 20, include_dashboard=False
            )
        finally:
            os.environ.clear()
            os.environ.update(before)

    def files(self, name: str) -> dict[str, bytes]:
        """What a node was sent."""
        folder = self.folder / name / "shipped"
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    from ray.cluster_utils import Cluster

    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    head = {"num_cpus": 0, "object_store_memory": 80 << 20, "include_dashboard": False}
    started = Two(Cluster(initialize_head=True, head_node_args=head), {}, tmp_path_factory.mktemp("ray"))
    try:
        started.start("a")
        started.start("b")
        yield started
    finally:
        started.cluster.shutdown()
        monkeypatch.undo()
        gc.collect()  # what Ray left open is warned of here, and not in another test


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An artefact of 9 MB in the driver's hands; the nodes know nothing of it."""
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    folder = tmp_path / "artifact"
    monkeypatch.setenv("FAKE_ARTIFACT", str(folder))
    contents = {"lib/old.tar": b"old", "lib/library.tar": b"library", "kvscape.json": b"{}"}
    for name, content in {**contents, "weights/canonical.safetensors": os.urandom(9_000_000)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def means() -> Means:
    program = [sys.executable, str(FAKE)]
    return Means(60.0, lambda arguments: [*program, *arguments], lambda: 1.0)


def points(blocked: int | None = None) -> tuple[DesignPoint, ...]:
    seeds = {blocked: BLOCKED}
    return tuple(
        DesignPoint.from_flat({"model": "tiny", "context_window_size": size, "seed": seeds.get(number, 0)})
        for number, size in enumerate(CONTEXTS)
    )


def study(cluster: RayCluster, store: Store, what: tuple[DesignPoint, ...]) -> list[Record]:
    space = Space("s", what, quality=Quality(Settings("windows", 64), Text("text", "words")))
    return Study(space, store, cluster.builder, Silent(), slots=cluster.slots).run()


def measured(log: Path) -> Counter[str]:
    return Counter(
        entry["context_window_size"]
        for entry in map(json.loads, log.read_text(encoding="utf-8").splitlines())
        if entry["verb"] == "bench"
    )


def every_point_is_measured_once_on_a_node_that_got_the_artefact_once(two: Two, here: Path, artifact: Path) -> None:
    with Store(here / "study.sqlite") as store:
        with ray_cluster(two.cluster.address, means()) as cluster:
            records = study(cluster, store, points())
            sent = [slot.sent for slot in cluster.slots]
        assert [record.parameters for record in records] == [point.flat() for point in points()]
        assert {record.status for record in records} == {"ok"}
        assert {record.metrics["perplexity"] for record in records} == {28.0}
        assert len({record.environment["node"] for record in records}) == 2
        assert measured(two.log) == Counter({str(size): 1 for size in CONTEXTS})
        files = ["lib/library.tar", "weights/canonical.safetensors", "kvscape.json"]
        assert sent == [files, files]
        for name in two.nodes:
            got = two.files(name)
            assert sorted(Path(path).name for path in got) == ["canonical.safetensors", "kvscape.json", "library.tar"]
            assert (artifact / "weights" / "canonical.safetensors").read_bytes() in got.values()
        with ray_cluster(two.cluster.address, means()) as cluster:
            assert study(cluster, store, points()) == records
            assert [slot.sent for slot in cluster.slots] == [[], []]
    assert sum(measured(two.log).values()) == len(CONTEXTS)


def an_interrupted_study_keeps_what_is_measured_and_goes_on(two: Two, here: Path) -> None:
    pipe = two.folder / "pipe"
    os.mkfifo(pipe)
    what = points(blocked=shuffled(range(len(CONTEXTS)), 0)[-1])  # the one that is measured last

    def interrupt() -> None:
        child.append(os.pidfd_open(int(pipe.read_text())))
        os.kill(os.getpid(), signal.SIGINT)

    child: list[int] = []
    # Where the tests run behind a script's "&", SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupter = Thread(target=interrupt)
    interrupter.start()
    with Store(here / "study.sqlite") as store:
        with pytest.raises(KeyboardInterrupt), ray_cluster(two.cluster.address, means()) as cluster:
            study(cluster, store, what)
        interrupter.join()
        pipe.unlink()
        assert store.study_records("s")
        with ray_cluster(two.cluster.address, means()) as cluster:
            records = study(cluster, store, what)
    assert {record.status for record in records} == {"ok"} and len(records) == len(what)


def test_a_cluster_that_cannot_be_used_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="no Ray cluster answers"), ray_cluster("127.0.0.1:1", means()):
        pass
    with pytest.raises(ConfigError, match="this is no address"), ray_cluster("nowhere", means()):
        pass
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="pip install 'kvscape"), ray_cluster("127.0.0.1:1", means()):
        pass


def a_node_that_is_killed_has_its_point_measured_elsewhere(two: Two, here: Path) -> None:
    pipe = two.folder / "pipe"
    os.mkfifo(pipe)
    what, killed = points(blocked=2), []

    def kill() -> None:
        """Kill the raylet under which a point works, when its child says that it does."""
        child = int(pipe.read_text())
        pipe.unlink()
        home = Path(f"/proc/{child}/environ").read_bytes().decode().split("KVSCAPE_HOME=")[1].split("\0")[0]
        name = Path(home).name
        two.cluster.remove_node(two.nodes.pop(name), allow_graceful=False)
        killed.append(name)

    killer = Thread(target=kill)
    killer.start()
    with Store(here / "study.sqlite") as store, ray_cluster(two.cluster.address, means()) as cluster:
        records = study(cluster, store, what)
        assert len(cluster.slots) == 2
    killer.join()
    assert len(killed) == 1
    assert [record.parameters for record in records] == [point.flat() for point in what]
    assert {record.status for record in records} == {"ok"}
    # Only what was interrupted was begun twice.
    assert measured(two.log) == Counter({str(size): 2 if size == CONTEXTS[2] else 1 for size in CONTEXTS})


def test_a_cluster_measures_each_point_once_whatever_happens(two: Two, artifact: Path, tmp_path: Path) -> None:
    """One test, since a cluster takes seconds to start."""
    every_point_is_measured_once_on_a_node_that_got_the_artefact_once(two, tmp_path / "first", artifact)
    an_interrupted_study_keeps_what_is_measured_and_goes_on(two, tmp_path / "second")
    two.log.unlink()
    a_node_that_is_killed_has_its_point_measured_elsewhere(two, tmp_path / "third")
