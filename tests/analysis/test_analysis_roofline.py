from dataclasses import replace

import pytest

from kvscape.analysis.memory import Memory
from kvscape.analysis.roofline import (
    DeviceRates,
    attention_operations,
    layer_parameters,
    predict_speed,
    predict_step,
    step_weights_bytes,
)
from kvscape.config import EngineConfig, ModelConfig, Workload

SMOLLM2 = ModelConfig(
    model_type="llama",
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    head_dim=64,
    vocab_size=49152,
    rms_norm_eps=1e-5,
    rope_theta=100000.0,
    max_position_embeddings=8192,
    tie_word_embeddings=True,
)
MEMORY = Memory(weights_bytes=84_000_000, kv_cache_bytes=0, kv_bytes_per_token=23040, workspace_bytes=0)
SLOW_MEMORY = DeviceRates(memory_bytes_per_s=1e9, operations_per_s=1e18)
SLOW_ARITHMETIC = DeviceRates(memory_bytes_per_s=1e18, operations_per_s=1e11)


def test_the_matrices_of_all_layers_are_counted() -> None:
    assert layer_parameters(SMOLLM2) == 30 * (576 * 960 + 576 * 576 + 3 * 576 * 1536)


def test_a_step_reads_a_tied_embedding_and_leaves_an_untied_one() -> None:
    assert step_weights_bytes(SMOLLM2, 1000) == 1000
    untied = replace(SMOLLM2, tie_word_embeddings=False)
    head = 576 * 49152
    layers = layer_parameters(SMOLLM2)
    assert step_weights_bytes(untied, 1000) == pytest.approx(1000 * (layers + head) / (layers + 2 * head))


def test_attention_is_two_products_with_every_key() -> None:
    assert attention_operations(SMOLLM2, 100) == 30 * 2 * (2 * 9 * 64 * 100)


def test_a_step_takes_the_slower_of_reading_and_computing() -> None:
    reading = predict_step(SMOLLM2, MEMORY, SLOW_MEMORY, tokens=4, logit_rows=4, kv_tokens=100)
    assert reading == pytest.approx((84_000_000 + 4 * 100 * 23040) / 1e9)
    computing = predict_step(SMOLLM2, MEMORY, SLOW_ARITHMETIC, tokens=4, logit_rows=4, kv_tokens=100)
    per_token = 2 * (layer_parameters(SMOLLM2) + 576 * 49152) + attention_operations(SMOLLM2, 100)
    assert computing == pytest.approx(4 * per_token / 1e11)


def test_decoding_reads_weights_once_for_the_whole_batch() -> None:
    def decode(batch: int) -> float:
        engine = EngineConfig(context_window_size=1024, max_batch_size=batch)
        memory = replace(MEMORY, kv_bytes_per_token=0)
        return predict_speed(SMOLLM2, memory, engine, Workload(), SLOW_MEMORY).decode_tokens_per_s

    assert decode(1) == pytest.approx(1e9 / 84e6)
    assert decode(4) == pytest.approx(4 * decode(1))


def test_a_small_model_on_a_gpu_waits_for_its_kernels() -> None:
    """As an H100 measured it in ten ways: 1,548 to 1,867 tokens/s (docs/gpu.md)."""
    engine, workload = EngineConfig(context_window_size=2048), Workload(prompt_tokens=512, max_tokens=128)
    h100 = DeviceRates(memory_bytes_per_s=2.98e12, operations_per_s=6.22e14, call_s=2e-6)
    found = predict_speed(SMOLLM2, MEMORY, engine, workload, h100).decode_tokens_per_s
    assert found == pytest.approx(1_700, rel=0.15)
    without = predict_speed(SMOLLM2, MEMORY, engine, workload, replace(h100, call_s=0)).decode_tokens_per_s
    assert without > 10_000


def test_a_small_model_in_a_large_batch_waits_for_the_host() -> None:
    """An H100 measured 12,800 to 17,400 tokens/s at batch 16, where its own limits let expect 19,000 to 22,000."""
    engine, workload = EngineConfig(max_batch_size=16), Workload(prompt_tokens=512, max_tokens=128)
    h100 = DeviceRates(2.98e12, 6.22e14, call_s=2e-6, token_s=15e-6)
    found = predict_speed(SMOLLM2, MEMORY, engine, workload, h100).tpot_s
    assert found - predict_speed(SMOLLM2, MEMORY, engine, workload, replace(h100, token_s=0)).tpot_s == pytest.approx(
        16 * 15e-6
    )
    assert 14_000 < 16 / found < 18_000


def test_times_add_up() -> None:
    engine = EngineConfig(context_window_size=1024, prefill_chunk_size=64)
    speed = predict_speed(SMOLLM2, MEMORY, engine, Workload(prompt_tokens=128, max_tokens=32), SLOW_ARITHMETIC)
    assert speed.e2e_s == pytest.approx(speed.ttft_s + 31 * speed.tpot_s)
    assert speed.prefill_tokens_per_s > speed.decode_tokens_per_s


def test_one_request_waits_for_all_of_its_own_chunks() -> None:
    engine = EngineConfig(context_window_size=1024, prefill_chunk_size=64)
    speed = predict_speed(SMOLLM2, MEMORY, engine, Workload(prompt_tokens=128), SLOW_ARITHMETIC)
    assert speed.ttft_s == pytest.approx(128 / speed.prefill_tokens_per_s)


def test_of_a_batch_the_mean_first_token_comes_before_the_last() -> None:
    engine = EngineConfig(context_window_size=1024, prefill_chunk_size=64, max_batch_size=4)
    speed = predict_speed(SMOLLM2, MEMORY, engine, Workload(prompt_tokens=128), SLOW_ARITHMETIC)
    prefilled_s = 4 * 128 / speed.prefill_tokens_per_s
    assert speed.ttft_s == pytest.approx(prefilled_s * (1 + 2 + 3 + 4) / 16)
