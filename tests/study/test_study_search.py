"""Which points a search measures, on grids whose every point is known."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from made_grid import FIXTURES, MeasuredGrid, made_grid, read_grid

from kvscape.config import DesignPoint
from kvscape.errors import ConfigError
from kvscape.results import Record
from kvscape.study.hypervolume import hypervolume, record_costs
from kvscape.study.search import SEARCHES, SearchSettings, make_search
from kvscape.study.search.search import shuffled

GRID = made_grid()
GRIDS = {"made up": GRID, **{path.stem: read_grid(path) for path in sorted(FIXTURES.glob("grid_*.json"))}}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_adaptive_finds_what_a_whole_grid_shows_with_24_points(grid: MeasuredGrid) -> None:
    assert len(grid.points) >= 96
    random = np.median([grid.share("random", 24, seed) for seed in range(10)])
    for seed in range(2):
        alone = grid.share("adaptive", 24, seed)
        with_memory = grid.share("adaptive", 24, seed, grid.memory, ("total_bytes",))
        assert min(alone, with_memory) >= 0.95
        assert min(alone, with_memory) > random


@pytest.mark.parametrize("method", SEARCHES[1:])
def test_a_search_asks_for_as_many_points_as_it_may_each_once_and_again_the_same(method: str) -> None:
    points = [record.parameters for record in GRID.search(method, 20, seed=3)]
    assert len({str(point) for point in points}) == 20
    assert points == [record.parameters for record in GRID.search(method, 20, seed=3)]
    assert points != [record.parameters for record in GRID.search(method, 20, seed=4)]


@pytest.mark.parametrize("method", ["tpe", "nsga2", "adaptive", "sobol"])
def test_a_search_goes_on_when_points_fail_and_ends_with_the_space(method: str) -> None:
    points = GRID.points[:12]
    search = make_search(SearchSettings(method, 100), points)
    asked = []
    while (point := search.ask()) is not None:
        asked.append(point)
        search.tell(point, Record(point.flat(), {}, {}, {}, {}, status="failed"))
    assert sorted(map(str, asked)) == sorted(map(str, points))


@pytest.mark.parametrize("method", ["tpe", "nsga2", "adaptive", "sobol"])
def test_several_points_may_be_out_at_once(method: str) -> None:
    search = make_search(SearchSettings(method, 18), GRID.points)
    for _ in range(6):
        asked = [search.ask() for _ in range(3)]
        assert len(set(asked)) == 3
        for point in asked:
            assert point is not None
            search.tell(point, GRID.records[point])
    assert search.ask() is None


def test_the_samplers_of_optuna_learn() -> None:
    """Better than chance by what they are told: each seed's late points against its early ones."""
    gains = []
    for seed in range(2):
        records = GRID.search("tpe", 40, seed)
        memory = [record.metrics["total_bytes"] for record in records]
        gains.append(np.median(memory[:8]) / np.median(memory[-16:]))
    assert np.median(gains) > 1.1


def test_the_first_points_of_adaptive_show_every_value_of_every_knob() -> None:
    first = [DesignPoint.from_flat(record.parameters) for record in GRID.search("adaptive", 11, seed=0)]
    assert len({point.build.quantization for point in first}) == 4
    assert len({point.engine.kv_dtype for point in first}) == 4
    assert len({point.engine.context_window_size for point in first}) >= 3
    assert min(Counter(point.engine.max_batch_size for point in first).values()) >= 4


def test_adaptive_finds_the_front_of_each_workload() -> None:
    grid = GRIDS["grid_smollm2"]

    def asked(point: DesignPoint, prompt: int) -> DesignPoint:
        return replace(point, workload=replace(point.workload, prompt_tokens=prompt))

    def answer(point: DesignPoint) -> Record:
        """The long prompt makes every point slower and larger than with the short one."""
        record = grid.records[asked(point, grid.points[0].workload.prompt_tokens)]
        speed, size = (0.25, 1.3) if point.workload.prompt_tokens == 512 else (1.0, 1.0)
        worse = {
            name: record.metrics[name] * by for name, by in (("decode_tokens_per_s", speed), ("total_bytes", size))
        }
        return replace(record, metrics={**record.metrics, **worse})

    search = make_search(SearchSettings("adaptive", 32), [asked(one, n) for one in grid.points for n in (64, 512)])
    found: dict[int, list[Record]] = {64: [], 512: []}
    while (point := search.ask()) is not None:
        found[point.workload.prompt_tokens].append(answer(point))
        search.tell(point, answer(point))
    for prompt, records in found.items():
        whole = np.asarray(record_costs([answer(asked(one, prompt)) for one in grid.points]))
        corner = whole.max(axis=0) + 0.05
        assert hypervolume(record_costs(records), corner) >= 0.95 * hypervolume(whole.tolist(), corner)


def test_without_perplexity_two_objectives_are_left() -> None:
    objectives = {"total_bytes": "min", "decode_tokens_per_s": "max"}
    search = make_search(SearchSettings("adaptive", 24), GRID.points, objectives=objectives)  # type: ignore[arg-type]
    speeds = []
    while (point := search.ask()) is not None:
        record = GRID.records[point]
        metrics = {name: value for name, value in record.metrics.items() if name != "perplexity"}
        search.tell(point, Record(point.flat(), metrics, {}, {}, {}))
        speeds.append(metrics["decode_tokens_per_s"])
    assert max(speeds) >= 0.97 * max(record.metrics["decode_tokens_per_s"] for record in GRID.records.values())


def test_an_order_is_shuffled_so_that_drift_falls_on_every_knob() -> None:
    order = shuffled(GRID.points, 0)
    places = {point: number for number, point in enumerate(order)}
    for quantization in ("auto", "q8f16_1", "q4f16_1", "q3f16_1"):
        own = [place for point, place in places.items() if point.build.quantization == quantization]
        assert abs(np.mean(own) - len(order) / 2) < 0.15 * len(order)


def test_one_point_or_none_needs_no_search() -> None:
    assert make_search(SearchSettings("adaptive"), []).ask() is None
    assert make_search(SearchSettings("tpe"), GRID.points[:1]).ask() == GRID.points[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "adaptiv"}, "unknown search 'adaptiv'; did you mean 'adaptive'?"),
        ({"points": 5}, "a grid is measured whole"),
        ({"method": "random", "points": 0}, "points = 0: it must be at least 1"),
        ({"repeats": 0}, "repeats = 0"),
        ({"budget_minutes": 0.0}, "there is no time"),
    ],
)
def test_mistakes_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        SearchSettings(**settings)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_how_many_points_a_search_measures() -> None:
    assert SearchSettings().most(100) == 100
    assert SearchSettings("random").most(100) == 24
    assert SearchSettings("random").most(10) == 10
    assert SearchSettings("random", budget_minutes=5).most(100) == 100
    assert SearchSettings("random", 30, budget_minutes=5).most(100) == 30
