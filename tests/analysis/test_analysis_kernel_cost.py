import pytest

from kvscape.analysis.kernel_cost import Array, Cost, StepFacts, kernel_cost
from kvscape.analysis.roofline import DeviceRates

POOL = (2, 100, 1024)
STEP = StepFacts(
    tokens=4,
    keys_seen=100,
    keys_present=40,
    kv_bytes=128.0,
    attention_operations=256.0,
    pool_shapes=frozenset({POOL}),
)


def test_a_product_reads_its_weights_once_and_multiplies_every_row() -> None:
    arrays = (Array((96, 32), 1), Array((96, 2), 2), Array((4, 64), 1), Array((4, 96), 4))
    cost = kernel_cost("int8_matmul_avx2_q8f16_1_96x64", arrays, STEP)
    assert cost == Cost(96 * 32 + 96 * 4 + 4 * 64 + 4 * 96 * 4, 2 * 96 * 64 * 4)


def test_attention_reads_the_keys_that_are_there_and_not_the_whole_pool() -> None:
    cost = kernel_cost("paged_attention_f16", (Array((4, 64), 4), Array(POOL, 2), Array((4, 64), 4)), STEP)
    assert cost == Cost(2 * 4 * 64 * 4 + 128 * 40, 256 * 100)


@pytest.mark.parametrize("name", ["linear_q4f16_1_96x64", "paged_attention_f16"])
def test_scratch_behind_the_result_is_not_what_must_move(name: str) -> None:
    arrays = (Array((4, 64), 2), Array((4, 96), 4))
    scratch = (Array((131 * 128,), 2), Array((8 * 64 * 96,), 4))
    assert kernel_cost(name, (*arrays, *scratch), STEP) == kernel_cost(name, arrays, STEP)


def test_append_writes_the_new_keys() -> None:
    cost = kernel_cost("rope_append_f16", (Array((4, 64), 4), Array(POOL, 2)), STEP)
    assert cost.nbytes == 4 * 64 * 4 + 128 * 4


def test_an_embedding_reads_its_tokens_rows() -> None:
    arrays = (Array((320, 32), 1), Array((4,), 4), Array((4, 64), 4))
    cost = kernel_cost("embedding_q4f16_1_320x64", arrays, STEP)
    assert cost == Cost(4 * 32 + 4 * 4 + 4 * 64 * 4, 4 * 64)


@pytest.mark.parametrize(("cost", "least_s"), [(Cost(200, 10), 2.0), (Cost(100, 40), 4.0)])
def test_the_roofline_is_the_slower_of_moving_and_computing(cost: Cost, least_s: float) -> None:
    assert cost.least_s(DeviceRates(memory_bytes_per_s=100, operations_per_s=10)) == least_s
