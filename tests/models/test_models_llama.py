"""The whole compiled model against numpy: prompt and answer through pages, at each precision."""

from pathlib import Path

import numpy as np
import pytest
from numpy_llama import Array, NumpyLlama

from built_tiny import BuildTiny, BuiltTiny, build_tiny
from kvscape.config import Window
from kvscape.engine.devices import StepInput
from kvscape.engine.devices.cpu import CpuDevice
from kvscape.errors import UnsupportedModelError
from kvscape.models import MODELS, find_model
from tiny import TinyShape, write_tiny_gguf

PAGE_SIZE = 16
TOKENS = np.random.default_rng(0).integers(3, 320, 41).astype(np.int32)


class OneSequence:
    """Feeds one sequence to a device, chunk by chunk, through pages in a random order."""

    def __init__(self, built: BuiltTiny, kv_dtype: str) -> None:
        self.device = CpuDevice(built.library, built.packed_weights, threads=2)
        self.pools = self.device.allocate(kv_dtype, [5], PAGE_SIZE, 1)
        self.table = np.array([4, 1, 3])
        self.position = 0

    def step(self, token_ids: Array) -> Array:
        """Logits after each of the tokens."""
        positions = np.arange(self.position, self.position + len(token_ids))
        self.position += len(token_ids)
        slots = self.table[positions // PAGE_SIZE] * PAGE_SIZE + positions % PAGE_SIZE
        step = StepInput(
            token_ids=token_ids.tolist(),
            positions=positions.tolist(),
            query_starts=[0, len(token_ids)],
            kv_lengths=[self.position],
            slots=[slots.tolist()],
            page_tables=[[self.table.tolist()]],
            windows=[Window()],
            logit_rows=list(range(len(token_ids))),
            tails=[0],
        )
        return self.device.fetch(self.device.forward(step, self.pools)).copy()


def logits(built: BuiltTiny, kv_dtype: str, prompt: int = 23) -> Array:
    """A prompt at once, then one token at a time."""
    sequence = OneSequence(built, kv_dtype)
    steps = [TOKENS[:prompt], *np.split(TOKENS[prompt:], len(TOKENS) - prompt)]
    return np.concatenate([sequence.step(tokens) for tokens in steps])


def test_a_float_model_is_the_numpy_model(built_tiny: BuildTiny) -> None:
    built = built_tiny("q0f32")
    expected = NumpyLlama(built.artifact).logits(TOKENS.tolist())
    assert np.ptp(expected) > 3, "worth comparing"
    np.testing.assert_allclose(logits(built, "f32"), expected, atol=2e-5)


@pytest.mark.parametrize(("kv_dtype", "most"), [("f16", 1e-3), ("int8", 1e-2)])
def test_kv_precisions_round_as_their_reference(built_tiny: BuildTiny, kv_dtype: str, most: float) -> None:
    """Nearly: a key whose f32 differs in its last bit may be rounded to the neighbouring code."""
    built = built_tiny("q0f32")
    y, expected = logits(built, kv_dtype), NumpyLlama(built.artifact, kv_dtype).logits(TOKENS.tolist())
    np.testing.assert_allclose(y, expected, atol=most)
    exact = NumpyLlama(built.artifact).logits(TOKENS.tolist())
    assert np.abs(y - expected).mean() < 0.3 * np.abs(y - exact).mean()


@pytest.mark.parametrize("kv_dtype", ["f32", "f16", "int8"])
def test_codes_and_8_bit_activations_round_as_their_reference(built_tiny: BuildTiny, kv_dtype: str) -> None:
    built = built_tiny("auto")
    y = logits(built, kv_dtype)
    expected = NumpyLlama(built.artifact, kv_dtype, int8_activations=True).logits(TOKENS.tolist())
    exact = NumpyLlama(built.artifact).logits(TOKENS.tolist())
    assert np.abs(y - expected).mean() < 0.3 * np.abs(y - exact).mean()
    np.testing.assert_allclose(y, exact, atol=0.3)


def test_float_activations_an_own_output_layer_and_mixed_formats(tmp_path: Path) -> None:
    """One layer, six query heads on two key heads, codes times floats, two embeddings."""
    shape = TinyShape(num_hidden_layers=1, num_attention_heads=6, tied=False)
    gguf = write_tiny_gguf(tmp_path / "untied.gguf", quant="F32", shape=shape)
    built = build_tiny(gguf, tmp_path, "q4f16_1", "q8f16_1", activation="float32", kv_dtypes=("f32",))
    formats = {name: info.format for name, info in built.artifact.manifest.tensors.items()}
    assert (formats["model.embed_tokens"], formats["model.layers.0.mlp.down_proj"]) == ("q8f16_1", "q4f16_1")
    expected = NumpyLlama(built.artifact).logits(TOKENS.tolist())
    np.testing.assert_allclose(logits(built, "f32"), expected, atol=2e-5)


# Neither 32 nor 40 divides any of its sizes.
ODD_SHAPE = TinyShape(hidden_size=112, intermediate_size=176, num_attention_heads=3, num_key_value_heads=1)


@pytest.mark.parametrize("quantization", ["q3f16_1", "q4f32_1"])
@pytest.mark.parametrize(("activation", "most"), [("float32", 2e-5), ("int8", 1e-4)])
def test_groups_that_do_not_divide_a_size(tmp_path: Path, quantization: str, activation: str, most: float) -> None:
    """Nearly, with 8-bit activations: one whose f32 differs in its last bit may be rounded to the neighbouring code."""
    gguf = write_tiny_gguf(tmp_path / "odd.gguf", quant="F32", shape=ODD_SHAPE)
    built = build_tiny(gguf, tmp_path, quantization, activation=activation, kv_dtypes=("f32",))
    assert {info.format for info in built.artifact.manifest.tensors.values()} == {"f32", quantization}
    y = logits(built, "f32")
    expected = NumpyLlama(built.artifact, int8_activations=activation == "int8").logits(TOKENS.tolist())
    np.testing.assert_allclose(y, expected, atol=most)


@pytest.mark.parametrize("quantization", ["q0f32", "auto"])
@pytest.mark.parametrize("prompt", [1, 16, 40])
def test_bits_do_not_depend_on_where_the_prompt_is_cut(built_tiny: BuildTiny, quantization: str, prompt: int) -> None:
    built = built_tiny(quantization)
    np.testing.assert_array_equal(logits(built, "int8", prompt), logits(built, "int8", 23))


def test_no_wanted_rows_give_no_logits(built_tiny: BuildTiny) -> None:
    sequence = OneSequence(built_tiny("auto"), "f16")
    first = StepInput(
        token_ids=TOKENS[:3].tolist(),
        positions=[0, 1, 2],
        query_starts=[0, 3],
        kv_lengths=[3],
        slots=[[64, 65, 66]],
        page_tables=[[sequence.table.tolist()]],
        windows=[Window()],
        logit_rows=[],
        tails=[0],
    )
    device = sequence.device
    assert device.forward(first, sequence.pools).shape == (0, 320)
    logits = device.fetch(device.forward(first._replace(logit_rows=[2]), sequence.pools))
    np.testing.assert_array_equal(logits, OneSequence(built_tiny("auto"), "f16").step(TOKENS[:3])[2:])


def test_an_unknown_architecture_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UnsupportedModelError, match=f"'rwkv' is not supported; supported are {', '.join(MODELS)}"):
        find_model("rwkv")
