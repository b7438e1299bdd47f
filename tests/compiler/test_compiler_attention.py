"""Appending to pages and attending over them, against dense attention in numpy; and the bits that must not change."""

import numpy as np
import pytest
from built_kernels import DIFFERENT_ISAS, GARBAGE, Array, Kernels, only_where_it_runs, set_threads
from paged import THETA, Heads, PagedCase, attention, frequencies, rope, rotated

from kvscape.compiler.kernels.cpu.attention import MAX_TILE_ROWS, tile_tokens
from kvscape.compiler.kernels.cpu.rope_append import rope_table
from kvscape.config import KV_DTYPES, Window
from kvscape.quantization.kv import round_keys, round_tokens, round_values

LENGTHS = [37, 1, 70, 16, 33]
SHAPES = [
    Heads("f32", 2, 3, 64),
    Heads("f16", 1, 4, 128),
    Heads("int8", 2, 2, 128),
    Heads("f16", 1, 6, 32),
    Heads("int8", 3, 1, 32),
    Heads("int8", 2, 3, 16, isa="generic"),
    Heads("int4", 3, 3, 64),
    Heads("int4", 1, 2, 80, isa="generic"),
    Heads("k=int8,v=int4", 2, 2, 32),
    Heads("k=int4,v=f16", 1, 4, 128),
    Heads("f32", 1, 2, 96, rotary=72, scale=0.2, soft_cap=3.0),
    Heads("int8", 1, 3, 64, rotary=48, soft_cap=2.0),
    Heads("int4", 2, 2, 32, rotary=16, scale=0.3, soft_cap=5.0, isa="generic"),
]
NEON = [Heads(kv_dtype, 2, 3, 32, isa="neon") for kv_dtype in ("f16", "int8", "int4")]
SHAPE = pytest.mark.parametrize("heads", SHAPES, ids=str)
SHAPE_OR_NEON = pytest.mark.parametrize(
    "heads", [*SHAPES, *(pytest.param(heads, marks=only_where_it_runs("neon")) for heads in NEON)], ids=str
)


def filled(heads: Heads, page_size: int, scale: float = 1) -> tuple[PagedCase, list[Array]]:
    """A case with the tokens of all sequences appended, and the rotated queries of each."""
    case = PagedCase(heads, LENGTHS, page_size)
    qkvs = [heads.qkv(length, seed) * np.float32(scale) for seed, length in enumerate(LENGTHS)]
    return case, [case.append(qkv, sequence, 0) for sequence, qkv in enumerate(qkvs)]


def reference(case: PagedCase, q: Array, sequence: int) -> Array:
    own = case.unrounded_of(sequence, len(q)) if case.heads.grouped else None
    return attention(q.reshape(len(q), -1, case.heads.dim), *case.stored_of(sequence, len(q)), own, case.heads)


SPANS = [(sequence, 0, length) for sequence, length in enumerate(LENGTHS)]


@pytest.mark.parametrize("isa", DIFFERENT_ISAS)
@pytest.mark.parametrize("dim", [16, 64])
def test_the_rope_table_holds_cosines_and_sines(isa: str, dim: int) -> None:
    positions = np.array([0, 1, 7, 2047, 8191, 50_000, 1_000_000], np.int32)
    (table,) = Kernels({"table": rope_table(dim)}, isa)("table", [positions, frequencies(dim)], [((7, dim), "float32")])
    np.testing.assert_allclose(table, rope(positions, dim), atol=1e-6)
    angle = 7 * THETA ** (-2 / dim)
    np.testing.assert_allclose(table[2, [1, dim // 2 + 1]], [np.cos(angle), np.sin(angle)], atol=1e-5)


@SHAPE_OR_NEON
@pytest.mark.parametrize("page_size", [8, 16, 64])
def test_append_writes_each_token_to_its_slot_and_nothing_else(heads: Heads, page_size: int) -> None:
    """Queries are copies of the keys here, so that the kernel itself tells the rotated keys before they are rounded."""
    case, n = PagedCase(heads, LENGTHS, page_size), 21
    qkv, sequence, start = heads.qkv(n, seed=7), 2, 16 if heads.grouped else 13
    qkv[3] = 0
    want_q, want_keys, want_values = heads.split(qkv)
    want_q[:] = np.repeat(want_keys, heads.group, axis=1)
    q = np.concatenate([case.append(qkv[:1], sequence, start), case.append(qkv[1:], sequence, start + 1)])
    q = q.reshape(n, heads.q_heads, heads.dim)
    positions = np.arange(start, start + n)
    np.testing.assert_allclose(q, case.turned(rotated(want_q, rope(positions, heads.turned_dim))), atol=2e-6)
    slots = case.slots(sequence, positions)
    whole = slots[: n // heads.precision.key_group * heads.precision.key_group]
    keys, values = case.stored_of(sequence, start + n)
    np.testing.assert_array_equal(
        keys[start:][: len(whole)], round_turned(q[:, :: heads.group], heads.precision.key)[: len(whole)]
    )
    np.testing.assert_array_equal(values[start:], round_values(want_values, heads.precision.value))
    assert (case.untouched_bytes(slots, whole) == GARBAGE).all()


def round_turned(keys: Array, dtype: str) -> Array:
    """What lies in the pages for keys as the cache has them: int8 ones are turned already."""
    return round_tokens(keys, dtype) if dtype == "int8" else round_keys(keys, dtype)


@pytest.mark.parametrize("magnitude", [1e-7, 1e-3, 1e3, 6e4])
@pytest.mark.parametrize("heads", [shape for shape in SHAPES if shape.kv_dtype != "f32"], ids=str)
def test_append_rounds_as_the_reference_does_at_every_magnitude(heads: Heads, magnitude: float) -> None:
    case = PagedCase(heads, [30], 16)
    qkv = (heads.qkv(30, seed=1) / 6 * magnitude).astype(np.float32)
    qkv[:, -heads.dim] = magnitude / 2  # halves of a step when divided by the scale
    case.append(qkv, 0, 0)
    np.testing.assert_array_equal(case.stored_of(0, 30)[1], round_values(heads.split(qkv)[2], heads.precision.value))


@SHAPE
@pytest.mark.parametrize("page_size", [8, 16, 24, 64])
@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0])
def test_attention_is_the_dense_softmax(heads: Heads, page_size: int, scale: float) -> None:
    """Pages lie in random order among stale ones; sharp softmaxes (``scale`` 8: scores of hundreds) lose some bits."""
    case, qs = filled(heads, page_size, scale)
    y = case.attend(np.concatenate(qs), SPANS)
    expected = np.concatenate([reference(case, q, sequence) for sequence, q in enumerate(qs)])
    np.testing.assert_allclose(y, expected, atol=scale * (1e-6 + 1e-6 * scale**2))


@SHAPE
def test_bits_depend_on_neither_page_size_tiles_nor_threads(heads: Heads) -> None:
    first, qs = filled(heads, 16)
    q = np.concatenate(qs)
    expected = first.attend(q, SPANS)
    for page_size in (8, 24, 32, 64):
        case, _ = filled(heads, page_size)
        for tokens, deal, threads in ((None, 1, 1), (None, 3, 2), (1, 2, 2), (5, 1, 2)):
            set_threads(threads)
            np.testing.assert_array_equal(case.attend(q, SPANS, tokens, deal), expected)


@SHAPE_OR_NEON
@pytest.mark.parametrize("chunk", [1, 3, 16])
def test_bits_do_not_depend_on_chunks_or_on_what_a_page_held_before(heads: Heads, chunk: int) -> None:
    """Each chunk attends before later tokens exist: the slots behind it hold garbage."""
    whole, qs = filled(heads, 32)
    expected = whole.attend(qs[2], SPANS[2:3])
    case, qkv = PagedCase(heads, LENGTHS, 16, seed=5), heads.qkv(LENGTHS[2], seed=2)
    for start in range(0, len(qkv), chunk):
        q = case.append(qkv[start : start + chunk], 2, start)
        y = case.attend(q, [(2, start, start + len(q))])
        np.testing.assert_array_equal(y, expected[start : start + len(q)])


@SHAPE_OR_NEON
def test_a_mixed_batch_attends_each_sequence_at_its_own_place(heads: Heads) -> None:
    """Three decodes and the later half of a prompt in one step."""
    case, qs = filled(heads, 16)
    spans = [(4, 32, 33), (1, 0, 1), (0, 36, 37), (2, 35, 70)]
    y = case.attend(np.concatenate([qs[sequence][start:stop] for sequence, start, stop in spans]), spans)
    expected = [reference(case, qs[sequence], sequence)[start:stop] for sequence, start, stop in spans]
    np.testing.assert_allclose(y, np.concatenate(expected), atol=2e-6)


@SHAPE
@pytest.mark.parametrize("window", [Window(), Window(4, 290), Window(0, 70)], ids=str)
def test_ranges_by_themselves_change_no_bit(heads: Heads, window: Window) -> None:
    lengths = [700, 256, 300]
    case = PagedCase(heads, lengths, 16)
    rows = [case.append_windowed(heads.qkv(n, n), i, 0, window) for i, n in enumerate(lengths)]
    q, sink_q = (np.concatenate([pair[which][-1:] for pair in rows]) for which in (0, 1))
    spans = [(sequence, length - 1, length) for sequence, length in enumerate(lengths)]
    whole = case.attend(q, spans, sink_q=sink_q, window=window)
    for threads in (1, 2):
        set_threads(threads)
        split = case.attend(q, spans, sink_q=sink_q, window=window, split=True)
        np.testing.assert_array_equal(split, whole)


@SHAPE_OR_NEON
def test_many_ranges_are_the_dense_softmax(heads: Heads) -> None:
    case = PagedCase(heads, [600], 16)
    q = case.append(heads.qkv(600, 1), 0, 0)
    own = case.unrounded_of(0, 600) if heads.grouped else None
    expected = attention(q.reshape(600, -1, heads.dim), *case.stored_of(0, 600), own, heads)
    np.testing.assert_allclose(case.attend(q, [(0, 0, 600)]), expected, atol=2e-6)


def test_one_dominant_key_gives_its_value() -> None:
    """Scores of +-4000: nothing overflows, and all other probabilities are zero."""
    heads = Heads("f32", 2, 3, 64)
    case = PagedCase(heads, [40], 16)
    qkv = heads.qkv(40, seed=0)
    qkv[:, -4 * 64 : -2 * 64] = -22
    qkv[17, -4 * 64 : -2 * 64] = 22
    case.append(qkv, 0, 0)
    keys, values = case.stored_of(0, 40)
    q = np.tile(np.repeat(keys[17], 3, axis=0).reshape(1, -1), (40, 1))
    y = case.attend(q, [(0, 0, 40)])
    np.testing.assert_allclose(y[17:], np.tile(np.repeat(values[17], 3, axis=0).ravel(), (23, 1)), rtol=1e-6)
    assert np.isfinite(y).all()


@pytest.mark.parametrize("group", [1, 2, 3, 4, 9, 48, 100])
def test_a_full_tile_fits_its_buffers(group: int) -> None:
    assert tile_tokens(group) >= 1
    assert tile_tokens(group) == 1 or tile_tokens(group) * group <= MAX_TILE_ROWS


def streaming_attention(case: PagedCase, qkv: Array, window: Window) -> Array:
    """StreamingLLM written plainly: what a query sees gets the positions 0, 1, 2 … inside the cache."""
    heads, rows = case.heads, []
    queries, keys, values = heads.split(qkv)
    values = round_values(np.ascontiguousarray(values), heads.precision.value)
    for position in range(len(qkv)):
        seen = [key for key in range(position + 1) if key < window.sinks or key > position - window.recent]
        inside = np.arange(len(seen), dtype=np.int32)
        k = rotated(keys[seen], rope(inside, heads.dim))
        q = rotated(queries[position : position + 1], rope(inside[-1:], heads.dim))
        padded = np.concatenate([np.zeros((len(seen) - 1, *q.shape[1:]), np.float32), q])
        rows.append(attention(padded, k, values[seen])[-1])
    return np.stack(rows)


@pytest.mark.parametrize("window", [Window(0, 8), Window(4, 12), Window(4, 28), Window(17, 20), Window(1, 1)], ids=str)
@pytest.mark.parametrize("page_size", [8, 32])
def test_a_query_sees_sinks_and_window_at_positions_inside_the_cache(window: Window, page_size: int) -> None:
    heads = Heads("f32", 2, 3, 64)
    case, qkv = PagedCase(heads, [130], page_size), heads.qkv(130, seed=3)
    q, sink_q = case.append_windowed(qkv, 0, 0, window)
    y = case.attend(q, [(0, 0, 130)], sink_q=sink_q, window=window)
    np.testing.assert_allclose(y, streaming_attention(case, qkv, window), atol=2e-5)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize("page_size", [8, 16])
@pytest.mark.parametrize("window", [Window(4, 28), Window(0, 17)], ids=str)
def test_a_window_changes_no_bit_with_tiles_and_reads_no_freed_page(
    kv_dtype: str, page_size: int, window: Window
) -> None:
    heads = Heads(kv_dtype, 2, 3, 64)
    case, qkv = PagedCase(heads, [130], page_size), heads.qkv(130, seed=3)
    q, sink_q = case.append_windowed(qkv, 0, 0, window)
    whole = case.attend(q, [(0, 0, 130)], sink_q=sink_q, window=window)
    for page in window.unseen_pages(129, page_size, heads.precision.key_group):
        case.tables[0, page] = case.num_pages - 1  # another page, full of garbage
    alone = [case.attend(q[i : i + 1], [(0, i, i + 1)], sink_q=sink_q[i : i + 1], window=window) for i in (129,)]
    np.testing.assert_array_equal(alone[0], whole[129:])
