"""A study of points on a GPU: its memory is what counts, and its machine is another one. The GPU is a made-up one."""

from pathlib import Path

import pytest
from fake_executor import QUALITY, FakeExecutor
from run_fake_study import Silent

from kvscape.analysis.cuda import Gpu, Gpus
from kvscape.config import DesignPoint
from kvscape.results import current_environment
from kvscape.study import Space, Store, Study
from kvscape.study.builds import Builds, library, study_keys
from kvscape.study.executor import Failed

ON_GPU, ON_CPU = (DesignPoint.from_flat({"model": "tiny", "device": device}) for device in ("cuda:0", "cpu"))
SPACE = Space("s", (ON_GPU, ON_CPU), quality=QUALITY)


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvscape.results.environment.gpus", lambda: Gpus((Gpu("H100", "sm_90", 132, 80 << 30),)))


def no_look() -> float:
    raise AssertionError("the reference is work of the processor")


def study(store: Store, space: Space, free: dict[str, int]) -> dict[str, str]:
    """The status of each device's point."""
    records = Study(space, store, FakeExecutor(), Silent(), available_bytes=free.__getitem__, reference=no_look).run()
    return {record.parameters["device"]: record.status for record in records}


def test_a_point_must_fit_into_the_memory_of_its_own_device(tmp_path: Path) -> None:
    with Store(tmp_path / "study.sqlite") as store:
        assert study(store, SPACE, {"cuda:0": 1, "cpu": 1}) == {"cuda:0": "infeasible", "cpu": "infeasible"}
        assert study(store, SPACE, {"cuda:0": 10**12, "cpu": 1}) == {"cuda:0": "ok", "cpu": "infeasible"}
        refused = next(record for record in store.study_records("s") if record.status == "infeasible")
        assert "gpu" not in refused.environment


def test_a_gpu_that_is_too_small_is_named(tmp_path: Path) -> None:
    with Store(tmp_path / "study.sqlite") as store:
        study(store, Space("s", (ON_GPU,)), {"cuda:0": 1})
        (record,) = store.study_records("s")
    assert (record.status, record.environment["gpu"]) == ("infeasible", "H100")


def test_each_device_is_a_machine_of_its_own() -> None:
    builds = Builds({library(point): Failed("failed", "") for point in SPACE.points})
    keys, elsewhere = study_keys(SPACE, builds), study_keys(SPACE, builds, "there")
    assert current_environment("cuda:0").machine != current_environment().machine
    assert all(keys[point][0] != elsewhere[point][0] for point in SPACE.points)


def test_every_precision_of_a_gpu_is_in_one_library() -> None:
    own = [DesignPoint.from_flat({"device": "cuda:0", "kv_dtype": kv}) for kv in ("f16", "fp8", "int4")]
    assert len({library(point) for point in own}) == 1
