from dataclasses import replace

import pytest
from test_analysis_roofline import SMOLLM2

from kvscape.analysis.memory import (
    Memory,
    Workspace,
    kv_bytes_per_token,
    kv_cache_bytes,
    kv_token_bytes,
    num_pages,
    page_bytes,
    predict_memory,
)
from kvscape.analysis.terms import memory_terms
from kvscape.config import GPU_KV_DTYPES, EngineConfig, LayerGroup

KEY = {"f32": 4 * 64, "f16": 2 * 64, "fp8": 64, "int8": 64 + 2, "int4": 32 + 64 * 2 * 2 // 16}
VALUE = {**KEY, "int4": 32 + 2 * 2}


@pytest.mark.parametrize("key", GPU_KV_DTYPES)
@pytest.mark.parametrize("value", GPU_KV_DTYPES)
def test_a_token_has_a_key_and_a_value_for_each_head_and_layer(key: str, value: str) -> None:
    kv_dtype, per_head = f"k={key},v={value}", KEY[key] + VALUE[value]
    assert kv_token_bytes(SMOLLM2, kv_dtype) == 3 * per_head
    assert page_bytes(SMOLLM2, kv_dtype, 16) == 16 * 3 * per_head
    assert kv_bytes_per_token(SMOLLM2, kv_dtype) == 30 * 3 * per_head


def test_int4_keys_have_a_tail_for_each_sequence() -> None:
    config = EngineConfig(kv_dtype="int4", max_batch_size=3)
    tails = 3 * 30 * 3 * 64 * 16 * 2
    assert kv_cache_bytes(SMOLLM2, config) == 3 * 2048 * 30 * 3 * (48 + 36) + tails
    assert kv_cache_bytes(SMOLLM2, replace(config, kv_dtype="k=int8,v=int4")) == 3 * 2048 * 30 * 3 * (66 + 36)


def test_the_default_models_figures() -> None:
    assert [kv_bytes_per_token(SMOLLM2, kv) for kv in ("f32", "f16", "int8")] == [46080, 23040, 11880]
    assert kv_cache_bytes(SMOLLM2, EngineConfig()) == 2048 * 23040


@pytest.mark.parametrize(("tokens", "pages"), [(1, 1), (16, 1), (17, 2), (32, 2)])
def test_the_last_page_may_be_half_full(tokens: int, pages: int) -> None:
    config = EngineConfig(max_total_sequence_length=tokens)
    assert num_pages(config, LayerGroup((0,))) == pages
    assert kv_cache_bytes(SMOLLM2, config) == pages * 16 * 23040


def test_a_batch_multiplies_the_context() -> None:
    assert kv_cache_bytes(SMOLLM2, EngineConfig(max_batch_size=4)) == 4 * kv_cache_bytes(SMOLLM2, EngineConfig())


def test_a_workspace_is_a_formula() -> None:
    assert Workspace(1000, 100, 10, 1).nbytes(tokens=2, sequences=3, logit_rows=4) == 1000 + 200 + 30 + 4


def test_the_busiest_step_is_a_full_chunk_and_a_row_of_logits_for_each_sequence() -> None:
    workspaces = {"f16": Workspace(0, 10000, 100, 1), "int8": Workspace(7, 0, 0, 0)}
    config = EngineConfig(prefill_chunk_size=64, max_batch_size=4)
    memory = predict_memory(SMOLLM2, config, 84_000_000, workspaces)
    assert memory == Memory(84_000_000, 4 * 2048 * 23040, 23040, 640_404, 13_200_000 + 500 * 49_152)
    assert memory.total_bytes == 84_000_000 + 4 * 2048 * 23040 + 640_404 + 37_776_000
    assert predict_memory(SMOLLM2, replace(config, kv_dtype="int8"), 0, workspaces).workspace_bytes == 7


def test_a_batch_larger_than_the_chunk_decodes_a_token_each() -> None:
    config = EngineConfig(prefill_chunk_size=2, max_batch_size=8)
    assert predict_memory(SMOLLM2, config, 0, {"f16": Workspace(0, 1, 0, 0)}).workspace_bytes == 8


GPU = Workspace(0, 1000, 100, 10, bytes_per_tile=3, tile_tokens=16, range_tokens=64, on_gpu=True)


@pytest.mark.parametrize(
    ("config", "busiest"),
    [
        (EngineConfig(2048, 512), (512, 1, 1, 32 + 8)),  # one token with all keys, and tiles without any
        (EngineConfig(64, 512), (512, 1, 1, 33)),  # the chunk's tokens, of which one tile more may be begun
        (EngineConfig(8190, 8, 16, prompt_lookup_tokens=4), (16, 16, 16, 16 * 128 * 5 // 4)),
        (EngineConfig(6400, 8, 5), (8, 8, 8, 503 + 125)),  # three rows of no sequence have a tile each
    ],
)
def test_the_busiest_step_has_a_tile_for_each_range_of_keys(
    config: EngineConfig, busiest: tuple[int, int, int, int]
) -> None:
    assert GPU.busiest(config) == busiest
    tokens, sequences, rows, tiles = busiest
    assert GPU.nbytes(*busiest) == 1000 * tokens + 100 * sequences + 10 * rows + 3 * tiles


def test_a_gpu_rounds_up_and_its_driver_takes_memory() -> None:
    config = EngineConfig()
    memory = predict_memory(SMOLLM2, config, 5, {"f16": GPU})
    assert memory.workspace_bytes == GPU.nbytes(*GPU.busiest(config)) + (1 << 20) + (1 << 14)
    assert memory.runtime_bytes == predict_memory(SMOLLM2, config, 9, {"f16": GPU}).runtime_bytes > 500_000_000
    terms = memory_terms(SMOLLM2, config, 5, GPU)
    assert sum(term.nbytes for term in terms) == memory.total_bytes


def test_the_terms_add_up_with_drafts_too() -> None:
    config, workspace = EngineConfig(max_batch_size=4, prompt_lookup_tokens=3), Workspace(7, 1000, 100, 10)
    terms = memory_terms(SMOLLM2, config, 5, workspace)
    assert sum(term.nbytes for term in terms) == predict_memory(SMOLLM2, config, 5, {"f16": workspace}).total_bytes
