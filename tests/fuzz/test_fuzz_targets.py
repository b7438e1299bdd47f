"""What ``make fuzz`` runs, with a few changes to whole files: only a KvscapeError, no hang, little memory."""

import time
import tracemalloc
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import TARGETS, run, seeds

# Python's objects are larger than the bytes that a file has for them; a whole small file needs about ten times its own.
_TIMES, _MOST_BYTES, _HANGS_S = 40, 8 << 20, 60.0

whole_seeds = cache(seeds)


@st.composite
def changed(draw: st.DrawFn, target: str) -> bytes:
    """A whole file with some bytes, numbers or pieces of it changed, in front of all in its header."""
    content = bytearray(draw(st.sampled_from(whole_seeds(target))))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, min(len(content) - 1, 12_000)) | st.integers(0, len(content) - 1))
        numbers = st.sampled_from([0, 1, 2, 7, 2**31, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1])
        piece = draw(st.binary(min_size=1, max_size=9) | numbers.map(lambda number: number.to_bytes(8, "little")))
        match draw(st.sampled_from(["over", "into", "cut"])):
            case "over":
                content[at : at + len(piece)] = piece
            case "into":
                content[at:at] = piece
            case "cut":
                del content[at : at + draw(st.integers(1, 64))]
    return bytes(content)


@pytest.mark.parametrize("target", TARGETS)
def test_whole_files_pass(target: str) -> None:
    for content in whole_seeds(target):
        TARGETS[target](content)


@pytest.mark.parametrize("target", TARGETS)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_changed_files_are_one_clear_error_at_most(target: str, data: st.DataObject) -> None:
    content = data.draw(changed(target))
    started = time.monotonic()
    tracemalloc.start()
    try:
        run(target, content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= _TIMES * len(content) + _MOST_BYTES
    assert time.monotonic() - started < _HANGS_S


@pytest.mark.parametrize("target", TARGETS)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_one_clear_error_at_most(target: str, content: bytes) -> None:
    run(target, content)
