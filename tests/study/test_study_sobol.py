from itertools import islice, product

import numpy as np
import pytest

from kvscape.config import DesignPoint
from kvscape.study.search.sobol import MOST_DIMENSIONS, sobol, sobol_order


@pytest.mark.parametrize("seed", [0, 7])
def test_every_projection_fills_its_intervals_evenly(seed: int) -> None:
    """A (0, 1)-sequence in each dimension: of 256 numbers one lies in each 256th."""
    numbers = np.asarray(list(islice(sobol(MOST_DIMENSIONS, seed), 256)))
    for column in numbers.T:
        assert sorted((column * 256).astype(int)) == list(range(256))


def test_the_first_two_dimensions_fill_every_box_evenly() -> None:
    """A (0, 2)-sequence (Sobol' 1967): of 64 points one lies in each box of the area 1/64, whatever its shape."""
    numbers = np.asarray(list(islice(sobol(2, 3), 64)))
    for width in (1, 2, 4, 8, 16, 32, 64):
        boxes = {(int(x * width), int(y * (64 // width))) for x, y in numbers}
        assert len(boxes) == 64


def test_the_order_is_of_a_space_and_has_each_point_once() -> None:
    pairs = [
        (kv, size) for kv, size in product(("f16", "int8", "int4"), (512, 1024, 2048)) if (kv, size) != ("f16", 512)
    ]
    points = [DesignPoint.from_flat({"kv_dtype": kv, "context_window_size": size}) for kv, size in pairs]
    order = list(sobol_order(points, 0))
    assert len(order) == 8 and set(order) == set(points)
    assert order != list(sobol_order(points, 1))
    assert order == list(sobol_order(points, 0))


def test_few_of_many_are_spread_over_every_knob() -> None:
    points = [
        DesignPoint.from_flat({"kv_dtype": kv, "context_window_size": size, "max_batch_size": batch})
        for kv, size, batch in product(("f32", "f16", "int8", "int4"), (512, 1024, 2048, 4096), (1, 2, 4, 8))
    ]
    few = list(islice(sobol_order(points, 0), 16))
    for name in ("kv_dtype", "context_window_size", "max_batch_size"):
        values = [getattr(point.engine, name) for point in few]
        assert {values.count(value) for value in values} <= {3, 4, 5} and len(set(values)) == 4
