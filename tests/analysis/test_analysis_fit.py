from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_analysis_roofline import SMOLLM2

from kvscape.analysis.fit import check_fit, fitting_total, largest
from kvscape.analysis.memory import Workspace, predict_memory
from kvscape.analysis.terms import memory_terms
from kvscape.config import KV_DTYPES, EngineConfig
from kvscape.errors import CapacityError

WEIGHTS = 80 * 2**20
WORKSPACES = {kv_dtype: Workspace(2**20, 9_000, 700, 200_000) for kv_dtype in KV_DTYPES}

windows = st.just((-1, 0)) | st.integers(1, 4096).flatmap(
    lambda size: st.tuples(st.just(size), st.integers(0, min(size - 1, 64)))
)
configs = st.builds(
    lambda window, **knobs: EngineConfig(sliding_window_size=window[0], attention_sink_size=window[1], **knobs),
    window=windows,
    context_window_size=st.integers(1, 2048),
    prefill_chunk_size=st.integers(1, 512),
    max_batch_size=st.integers(1, 64),
    max_total_sequence_length=st.none() | st.integers(1, 50_000),
    kv_dtype=st.sampled_from(KV_DTYPES),
    page_size=st.sampled_from((16, 32)),
).map(lambda config: config.fitted(SMOLLM2))


def total_bytes(config: EngineConfig) -> int:
    return predict_memory(SMOLLM2, config.fitted(SMOLLM2), WEIGHTS, WORKSPACES).total_bytes


def check(config: EngineConfig, available_bytes: int) -> None:
    check_fit(SMOLLM2, config.fitted(SMOLLM2), WEIGHTS, WORKSPACES, available_bytes)


def refusal(config: EngineConfig, available_bytes: int) -> CapacityError:
    with pytest.raises(CapacityError) as caught:
        check(config, available_bytes)
    return caught.value


def turned(config: EngineConfig, advice: str) -> tuple[EngineConfig, str]:
    """What ``use KNOB 1 and KNOB at most VALUE`` says, done; and the last knob."""
    words = advice.replace(" at most", "").replace(" and", "").split()[1:]
    changes = {name: int(value) for name, value in zip(words[::2], words[1::2], strict=True)}
    return replace(config, **changes), words[-2]  # type: ignore[arg-type]


@given(config=configs, share=st.floats(0, 1))
def test_the_value_named_fits_and_the_next_one_does_not(config: EngineConfig, share: float) -> None:
    available = int(share * (total_bytes(config) - 1))
    error = refusal(config, available)
    if error.do.startswith("nothing"):
        return
    largest_that_fits, knob = turned(config, error.do)
    check(largest_that_fits, available)
    change = {knob: getattr(largest_that_fits, knob) + 1}
    assert total_bytes(replace(largest_that_fits, **change)) > available
    assert knob != "context_window_size" or not fits_with_the_smallest_window(largest_that_fits, config, available)


def fits_with_the_smallest_window(turned_config: EngineConfig, asked: EngineConfig, available_bytes: int) -> bool:
    """The context is the last knob: it is turned where no window is there, or none would do."""
    if asked.sliding_window_size == -1 or asked.max_total_sequence_length is not None:
        return False
    smallest = replace(
        turned_config,
        context_window_size=asked.context_window_size,
        prefill_chunk_size=asked.prefill_chunk_size,
        sliding_window_size=asked.attention_sink_size + 1,
    )
    return total_bytes(smallest) <= available_bytes


@given(config=configs)
def test_an_engine_fits_to_the_last_byte(config: EngineConfig) -> None:
    check(config, total_bytes(config))
    refusal(config, total_bytes(config) - 1)


@given(config=configs)
def test_the_terms_make_the_total(config: EngineConfig) -> None:
    terms = memory_terms(SMOLLM2, config, WEIGHTS, WORKSPACES[config.kv_dtype])
    memory = predict_memory(SMOLLM2, config, WEIGHTS, WORKSPACES)
    assert sum(term.nbytes for term in terms) == memory.total_bytes
    assert sum(term.nbytes for term in terms if term.of == "kv_cache") == memory.kv_cache_bytes


@given(most=st.integers(0, 10**20), limit=st.integers(0, 10**20))
def test_the_largest_of_a_range(most: int, limit: int) -> None:
    assert largest(most, lambda value: value <= limit) == min(most, limit)


@pytest.mark.parametrize(
    ("config", "free_bytes", "line"),
    [
        (
            EngineConfig(context_window_size=8192, max_batch_size=64),
            10 * 2**30,
            "the KV cache of context_window_size 8192 x max_batch_size 64 needs 11.25 GiB, in all "
            "11.38 GiB: 10.00 GiB are free; use max_batch_size at most 56",
        ),
        (
            EngineConfig(context_window_size=8192, max_batch_size=4),
            236 * 2**20,
            "the KV cache of context_window_size 8192 x max_batch_size 4 needs 720.0 MiB, in all "
            "842.2 MiB: 236.0 MiB are free; use max_batch_size 1 and context_window_size at most 5200",
        ),
        (
            EngineConfig(context_window_size=100_000, sliding_window_size=8192, attention_sink_size=4, kv_dtype="f32"),
            236 * 2**20,
            "the KV cache of context_window_size 100000 x max_batch_size 1 behind sliding_window_size 8192 needs "
            "383.9 MiB, in all 505.5 MiB: 236.0 MiB are free; use sliding_window_size at most 2052",
        ),
        (
            EngineConfig(sliding_window_size=64, attention_sink_size=4),
            126 * 2**20,
            "the KV cache of context_window_size 2048 x max_batch_size 1 behind sliding_window_size 64 needs 13.4 MiB, "
            "in all 135.0 MiB: 126.0 MiB are free; use context_window_size at most 285",
        ),
        (
            EngineConfig(max_total_sequence_length=10_000),
            236 * 2**20,
            "the KV cache of max_total_sequence_length 10000 needs 219.7 MiB, in all "
            "341.3 MiB: 236.0 MiB are free; use max_total_sequence_length at most 5200",
        ),
        (
            EngineConfig(),
            116 * 2**20,
            "the KV cache of context_window_size 2048 x max_batch_size 1 needs 45.0 MiB, in all "
            "166.6 MiB: 116.0 MiB are free; nothing is left for a KV cache: use a smaller model or quantization, "
            "or free memory",
        ),
    ],
)
def test_the_line_names_the_knob_to_turn(config: EngineConfig, free_bytes: int, line: str) -> None:
    assert str(refusal(config, free_bytes)) == line


@given(config=configs.map(lambda config: replace(config, max_total_sequence_length=None)), share=st.floats(0, 1.2))
def test_as_much_of_a_cache_as_fits(config: EngineConfig, share: float) -> None:
    available = int(share * total_bytes(config))
    total = fitting_total(SMOLLM2, config, WEIGHTS, WORKSPACES, available)
    if total is None:
        check(config, available)
    elif total > config.context_window_size:
        check(replace(config, max_total_sequence_length=total), available)
        assert total_bytes(replace(config, max_total_sequence_length=total + config.page_size)) > available
    else:
        assert total == config.context_window_size and total_bytes(config) > available
