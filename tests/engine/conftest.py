"""What the tests of the engine share."""

from collections.abc import Iterator

import pytest

from kvscape.config.precision import KV_DTYPES


@pytest.fixture(scope="package", autouse=True)
def all_precisions() -> Iterator[None]:
    """The fake device has them all, whatever the kernels have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kvscape.config.engine.KV_DTYPES", KV_DTYPES)
        yield
