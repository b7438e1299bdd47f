"""CUDA libraries, compiled where there is no GPU: every kernel, for the oldest and the newest architecture."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from architectures import ARCHITECTURES, with_heads
from kvscape.analysis.cuda import Gpu, Gpus
from kvscape.compiler.backend import find_backend
from kvscape.compiler.build import LibrarySpec, check_sizes, compile_library
from kvscape.compiler.cuda_target import detect_cuda_target, find_cuda_target
from kvscape.compiler.device_code import compiled, source
from kvscape.compiler.export import export_model
from kvscape.compiler.kernels.cuda import attention, choices, linear, products, rows
from kvscape.compiler.kernels.cuda.products import Product
from kvscape.compiler.kernels.cuda.some import Some, some
from kvscape.compiler.key import library_key
from kvscape.compiler.passes.dispatch_kernels import DispatchKernels
from kvscape.compiler.passes.halve_activations import HalveActivations
from kvscape.compiler.pipeline import rounding
from kvscape.compiler.target import device_target, find_any_target
from kvscape.config import ModelConfig
from kvscape.errors import ConfigError, DeviceError, KvscapeError, UnsupportedModelError
from kvscape.quantization.format import FORMATS
from kvscape.quantization.layouts import LAYOUTS
from kvscape.weights.canonical import canonical_shapes

MODEL = ModelConfig("llama", 64, 128, 2, 4, 2, 32, 320, 1e-5, 1e4, 256, True, 1, (2,))
FORMAT_OF = {name: "q4f16_1" for name, shape in canonical_shapes(MODEL).items() if len(shape) > 1}

# One of each kind of codes.
FORMAT_NAMES = ("f16", "q8f16_1", "q4f16_1", "q4af16_1", "q3f16_1")
# Each precision once for keys and once for values.
_DYNAMIC = "tirx.use_dyn_shared_memory"
KV_DTYPES = ("f16", "int8", "int4", "k=f32,v=fp8", "k=fp8,v=f32")


def every_kernel(architecture: str) -> list[Any]:
    """Each device function in one form at least: formats, KV precisions, gates."""
    many = products.many(architecture)
    shapes = [attention.Shape(kv_dtype, 4, 2, 32, 32, 32**-0.5, 0.0) for kv_dtype in KV_DTYPES]
    return [
        *(linear.linear_function(Product(FORMATS[name], 64, 64), many) for name in FORMAT_NAMES),
        linear.linear_function(Product(FORMATS["q4f16_1"], 64, 64, "swiglu"), many, Some(4)),
        linear.linear_function(Product(FORMATS["f16"], 64, 64, "geglu"), many, Some(4, is_split=True)),
        *(linear.embedding_function(FORMATS[name], 64, 64) for name in FORMAT_NAMES),
        *(attention.rope_append_function(shape, f"append_{shape.precision.identifier}") for shape in shapes),
        *(
            attention.group_append_function(shape, f"group_{shape.precision.identifier}")
            for shape in shapes
            if shape.grouped
        ),
        *(
            attention.paged_attention_function(shape, "float16", f"attend_{shape.precision.identifier}")
            for shape in shapes
        ),
        attention.rope_table_function("table", 32, 1.0),
        attention.rope_frequencies_function(32, 4096),
        rows.rms_norm_function(64, 1e-5, "float32"),
        rows.add_rms_norm_function(64, 1e-5, "float16"),
        *(rows.gated_function(name, 64, "float16") for name in rows.GATES),
        rows.head_norm_function(4, 2, 32, 1e-5),
        rows.add_bias_function(64),
        rows.take_rows_function(64),
        choices.greedy_function(320),
        choices.logprobs_function(320),
        choices.sample_function(320),
        choices.edit_function(320),
        choices.token_logprobs_function(320),
    ]


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_every_kernel_compiles(architecture: str) -> None:
    code = compiled(every_kernel(architecture), architecture)
    functions = json.loads(code.functions)["func_info"]
    assert len(functions) > 30 and all(name.encode() in code.cubin for name in functions)


def test_an_architecture_is_a_target_without_any_gpu() -> None:
    assert device_target("cuda:sm_80") == find_cuda_target("sm_80")
    with pytest.raises(ConfigError, match="the CUDA kernels need sm_80 or newer"):
        device_target("cuda:sm_75")


def test_a_library_holds_both_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvscape.compiler.device_code.compile_cuda", lambda text, name: f"{name}: {text}".encode())
    target = find_any_target("sm_90")
    spec = LibrarySpec(MODEL, FORMAT_OF, target, "float16", kv_dtypes=target.library_kv_dtypes("f16"))
    compile_library(spec, tmp_path / "library.tar")
    with tarfile.open(tmp_path / "library.tar") as tar:
        members = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        functions = json.load(members["device.json"])["func_info"]  # type: ignore[arg-type]
        text = members["device.cubin"].read().decode()  # type: ignore[union-attr]
    assert members.keys() == {"0.o", "1.o", "device.cubin", "device.json"} and text.startswith("sm_90: ")
    assert {
        "greedy_0",
        "sample_0",
        "edit_0",
        "token_logprobs_0",
        "paged_attention_int8_2",
        "linear_q4f16_1_320x64_2",
    } <= functions.keys()
    assert all(f" {name}(" in text for name in functions)
    with pytest.raises(KvscapeError, match=r"a GPU's library is a \.tar"):
        compile_library(spec, tmp_path / "library.so")


@pytest.mark.parametrize(("architecture", "early"), [("sm_80", False), ("sm_90", True)])
def test_kernels_begin_early_where_an_architecture_can(
    architecture: str, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvscape.compiler.device_code.compile_cuda", lambda text, name: b"")
    product = linear.linear_function(Product(FORMATS["q4f16_1"], 64, 64), products.many(architecture))
    functions = json.loads(compiled([product], architecture).functions)["func_info"]
    for launch in functions.values():
        assert ("tirx.use_programtic_dependent_launch" in launch["launch_param_tags"]) == early
    # TVM takes the size of shared memory at the end only.
    shared = [tags for launch in functions.values() if _DYNAMIC in (tags := launch["launch_param_tags"])]
    assert shared and all(tags[-1] == _DYNAMIC for tags in shared)


@pytest.mark.parametrize(("n", "tokens"), [(1, 128), (128, 128), (129, 256), (700, 768)])
def test_scratch_holds_whole_tiles_of_tokens_and_whole_chunks_of_columns(n: int, tokens: int) -> None:
    """Where warpgroups multiply: 96 columns of 3-bit weights are a chunk of 160."""
    product = Product(FORMATS["q3f16_1"], 64, 96)
    (((length,), dtype),) = products.many("sm_90").scratch(product, n)
    assert tokens * 160 <= length < (tokens + 128) * 160 and dtype == "float16"
    assert products.many("sm_80").scratch(product, n) == ()


@pytest.mark.parametrize(
    ("N", "K", "way"),
    [
        (2048, 2048, None),
        (128_256, 4096, "whole"),
        (16384, 2048, "whole"),
        (4096, 4096, "split"),
        (4096, 14336, "split"),
    ],
)
def test_some_tokens_keep_all_processors_busy(N: int, K: int, way: str | None) -> None:
    """By blocks of whole rows where these are many, else by a block for each range of columns; small weights are read
    again. A block's sums are room for 64 tokens in 8 ranges."""
    chosen = some(product := Product(FORMATS["q4f16_1"], N, K))
    assert way == (chosen and ("split" if chosen.is_split else "whole"))
    if chosen:
        assert chosen.is_split or N / (32 * chosen.warps) >= 100
        assert chosen.scratch(product) == ((((8 * 64 * N,), "float32"),) if chosen.is_split else ())


def test_a_launch_says_how_its_kernel_is_called() -> None:
    code = rows.rms_norm_function(64, 1e-5, "float16").attrs["kvscape.device_code"]
    (launch,) = json.loads(str(code))
    assert launch["text"].endswith(
        "rms_norm_64_float16_0(float* x, float* weight, u16* y, int K, float eps) { rms_norm(x, weight, y, K, eps); }"
    )
    assert launch["arg_types"] == ["handle"] * 3 + ["int32", "float32"]
    assert launch["launch_param_tags"] == ["blockIdx.x", "threadIdx.x"]
    assert launch["text"] in source([launch])


def test_what_products_read_is_f16() -> None:
    mod, _ = export_model(MODEL, FORMAT_OF, LAYOUTS["fragments"], ["f16"])
    dispatch = DispatchKernels(find_backend(find_any_target("sm_90")).dispatch)
    names = {gvar.name_hint for gvar, _ in dispatch(HalveActivations()(mod)).functions_items()}
    assert {"rms_norm_64_float16", "add_rms_norm_64_float16", "swiglu_128_float16"} <= names
    with pytest.raises(UnsupportedModelError, match="no kernel for operator 'linear'"):
        dispatch(mod)


def test_each_architecture_has_a_key_of_its_own() -> None:
    keys = [library_key(MODEL, FORMAT_OF, find_any_target(name), "float16") for name in ("sm_80", "sm_90")]
    assert keys[0] != keys[1] and keys[1].startswith("sm_90-float16-")


def test_old_architectures_are_refused() -> None:
    with pytest.raises(ConfigError, match="the CUDA kernels need sm_80 or newer"):
        find_cuda_target("sm_75")


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (Gpus((), "there is no NVIDIA driver"), "there is no NVIDIA driver"),
        (Gpus((Gpu("H100", "sm_90", 132),)), "GPUs that this machine has: 1, counted from 0"),
        (Gpus((Gpu("H100", "sm_90", 132), Gpu("T4", "sm_75", 40))), "T4 is sm_75: the CUDA kernels need sm_80"),
    ],
)
def test_a_gpu_that_cannot_run_is_one_clear_line(known: Gpus, why: str) -> None:
    with pytest.raises(DeviceError, match=f"^device 'cuda:1' cannot run here: {why}.*; use --device cpu$"):
        detect_cuda_target("cuda:1", 1, known)


def test_the_gpu_that_is_asked_for_is_found() -> None:
    known = Gpus((Gpu("H100", "sm_90", 132), Gpu("A10", "sm_86", 72)))
    assert detect_cuda_target("cuda:1", 1, known).name == "sm_86"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_operator_of_every_architecture_has_a_kernel(name: str) -> None:
    model = with_heads(ARCHITECTURES[name], 32)
    formats = {tensor: "q4f16_1" for tensor, shape in canonical_shapes(model).items() if len(shape) > 1}
    mod, _ = export_model(model, formats, LAYOUTS["fragments"], ["int4"])
    for _, apply in rounding("float16"):
        mod = apply(mod)
    mod = DispatchKernels(find_backend(find_any_target("sm_90")).dispatch)(mod)
    names = {gvar.name_hint for gvar, _ in mod.functions_items()}
    assert {"rope_append_int4", "group_append_int4", "paged_attention_int4"} <= names


def test_heads_that_no_kernel_takes_are_one_clear_line() -> None:
    with pytest.raises(UnsupportedModelError, match=r"^head_dim = 80: the kernels take 32 values at once"):
        check_sizes(replace(MODEL, head_dim=80), find_backend(find_any_target("sm_90")).multiples)


@pytest.mark.parametrize(
    ("q_heads", "head_dim", "what"), [(65, 64, "65 query heads that share"), (8, 512, "head_dim = 512")]
)
def test_heads_that_do_not_fit_into_a_block_are_refused(q_heads: int, head_dim: int, what: str) -> None:
    shape = attention.Shape("f16", q_heads, 1, head_dim, head_dim, 1.0, 0.0)
    with pytest.raises(UnsupportedModelError, match=f"^{what}.*: the CUDA kernels take up to .*; use --device cpu$"):
        attention.checked(shape)


def test_every_format_of_weights_has_a_kernel() -> None:
    assert products.NAMES.keys() == FORMATS.keys()
    assert {products.NAMES[name] for name in FORMAT_NAMES} == set(products.NAMES.values())


def test_a_library_has_all_precisions_but_pairs() -> None:
    target = find_cuda_target("sm_90")
    assert target.library_kv_dtypes("int8") == target.library_kv_dtypes("fp8") == ("f32", "f16", "int8", "int4", "fp8")
    assert target.library_kv_dtypes("k=int8,v=fp8") == ("k=int8,v=fp8",)
