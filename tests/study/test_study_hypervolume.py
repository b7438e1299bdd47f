import numpy as np
import pytest

from kvscape.study.hypervolume import costs, front, hypervolume, record_costs
from kvscape.study.search.improvement import expected_improvement
from kvscape.study.search.surrogate import Belief
from made_records import made_records


def counted(values: np.ndarray, reference: np.ndarray, samples: int = 40_000) -> float:
    """Hypervolume by throwing darts at the box between the best values and the reference."""
    low = values.min(axis=0)
    darts = np.random.default_rng(1).uniform(low, reference, (samples, len(reference)))
    hit = np.any(np.all(values[None] <= darts[:, None], axis=2), axis=1)
    return float(hit.mean() * np.prod(reference - low))


def test_boxes_that_overlap_count_once() -> None:
    assert hypervolume([(0, 1), (1, 0)], (2, 2)) == 3
    assert hypervolume([(0, 1), (1, 0), (1, 1), (0, 1)], (2, 2)) == 3
    assert hypervolume([(0, 0, 1), (1, 1, 0)], (2, 2, 2)) == 5
    assert hypervolume([(3, 0), (2, 2)], (2, 2)) == 0
    assert hypervolume([], (1, 1)) == 0


@pytest.mark.parametrize("axes", [2, 3, 4])
def test_it_is_what_darts_hit(axes: int) -> None:
    values, reference = np.random.default_rng(axes).uniform(0, 1, (12, axes)), np.full(axes, 1.1)
    assert hypervolume(values.tolist(), reference.tolist()) == pytest.approx(counted(values, reference), rel=0.03)


def test_the_front_has_no_row_that_another_beats() -> None:
    assert front([(1, 2), (2, 1), (2, 2), (1, 2), (0, 5)]).tolist() == [[0, 5], [1, 2], [2, 1]]


def test_costs_are_logarithms_of_what_shall_be_small() -> None:
    metrics = {"total_bytes": 100.0, "decode_tokens_per_s": 10.0, "perplexity": 1.0}
    assert costs(metrics) == pytest.approx((np.log(100), -np.log(10), 0))
    assert len(record_costs(made_records())) == 16


def test_an_expected_improvement_is_the_mean_of_what_samples_add() -> None:
    random = np.random.default_rng(0)
    measured, reference = random.uniform(0.3, 1, (5, 3)), np.full(3, 1.05)
    means, deviations = random.uniform(0, 1.1, (3, 3)), random.uniform(0.01, 0.3, (3, 3))
    beliefs = [Belief(mean, deviation) for mean, deviation in zip(means, deviations, strict=True)]
    expected = expected_improvement(beliefs, measured, reference)
    before = hypervolume(measured.tolist(), reference.tolist())
    for point in range(3):
        drawn = random.normal(means[:, point], deviations[:, point], (300, 3))
        added = [hypervolume([*measured.tolist(), one], reference.tolist()) - before for one in drawn.tolist()]
        assert expected[point] == pytest.approx(np.mean(added), abs=4 * np.std(added) / np.sqrt(300))


def test_a_point_that_is_surely_beaten_adds_nothing() -> None:
    beliefs = [Belief(np.asarray([0.9, 0.1]), np.asarray([1e-6, 1e-6]))] * 2
    worth = expected_improvement(beliefs, np.asarray([[0.5, 0.5]]), np.asarray([1.0, 1.0]))
    assert worth == pytest.approx([0, 0.9**2 - 0.5**2], abs=1e-5)
