import pytest

from kvscape.errors import ConfigError
from kvscape.quantization.format import FORMATS, find_format, most_precise


def test_bits_per_weight_count_scales_and_minima() -> None:
    bits = {name: fmt.bits_per_weight for name, fmt in FORMATS.items()}
    coded = {"q8f32_1": 9, "q8f16_1": 8.5, "q4f32_1": 5, "q4af16_1": 5, "q4f16_1": 4.5, "q3f16_1": 3.6}
    assert bits == {"f32": 32, "f16": 16, **coded}


def test_shapes_of_stored_arrays() -> None:
    assert FORMATS["f16"].shapes((3, 5)) == {"weight": ("float16", (3, 5))}
    assert FORMATS["q8f16_1"].shapes((3, 64)) == {"q_weight": ("uint32", (3, 16)), "q_scale": ("float16", (3, 2))}
    assert FORMATS["q4af16_1"].shapes((3, 64))["q_min"] == ("float16", (3, 2))
    assert FORMATS["q4f32_1"].shapes((3, 64)) == {"q_weight": ("uint32", (3, 8)), "q_scale": ("float32", (3, 2))}
    assert FORMATS["q3f16_1"].shapes((3, 80)) == {"q_weight": ("uint32", (3, 8)), "q_scale": ("float16", (3, 2))}


def test_a_last_group_that_is_not_full_has_its_words_and_scale() -> None:
    assert FORMATS["q4f16_1"].shapes((3, 100)) == {"q_weight": ("uint32", (3, 16)), "q_scale": ("float16", (3, 4))}
    assert FORMATS["q3f16_1"].shapes((3, 64)) == FORMATS["q3f16_1"].shapes((3, 80))
    assert [FORMATS["q3f16_1"].padded(columns) for columns in (1, 40, 41)] == [40, 40, 80]


def test_codes_go_as_far_as_kernels_take_them() -> None:
    tops = {name: fmt.top_code for name, fmt in FORMATS.items() if not fmt.is_float}
    assert tops == {"q8f32_1": 254, "q8f16_1": 254, "q4f32_1": 15, "q4af16_1": 15, "q4f16_1": 15, "q3f16_1": 7}


def test_an_unknown_format_names_the_near_match() -> None:
    with pytest.raises(ConfigError, match="did you mean 'q4f16_1'"):
        find_format("q4f16")


def test_the_most_precise_format_keeps_most_bits() -> None:
    assert most_precise([FORMATS["q4af16_1"], FORMATS["q8f16_1"], FORMATS["q4f16_1"]]).name == "q8f16_1"
