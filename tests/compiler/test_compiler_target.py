import platform

import pytest
import tvm
from tvm.target import Target

from kvscape.compiler import target
from kvscape.compiler.kernels.cpu.isa import ISAS
from kvscape.compiler.target import detect_target, find_target
from kvscape.errors import ConfigError

AVX2 = ("avx2", "fma", "f16c")
VNNI = (*AVX2, "avx512f", "avx512bw", "avx512vl", "avx512_vnni")


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (VNNI, "avx512vnni"),
        ((*VNNI, "amx_int8", "avx_vnni"), "avx512vnni"),
        (AVX2, "avx2"),
        (VNNI[:-1], "avx2"),
        ((*AVX2, "avx_vnni"), "avx2"),
        ((*AVX2, "avx512_vnni"), "avx2"),
        (("avx512_vnni",), "generic"),
        (AVX2[:-1], "generic"),
        ((), "generic"),
    ],
)
def test_the_best_target_whose_every_feature_is_there(
    monkeypatch: pytest.MonkeyPatch, features: tuple[str, ...], expected: str
) -> None:
    monkeypatch.setattr(target, "cpu_features", lambda: features)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert detect_target() == find_target(expected)


def test_another_architecture_gets_the_generic_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "cpu_features", lambda: VNNI)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert detect_target().name == "generic"


def test_an_unknown_target_is_an_error_that_names_the_near_match() -> None:
    with pytest.raises(ConfigError, match="unknown target 'avx3'; did you mean 'avx2'"):
        find_target("avx3")


@pytest.mark.parametrize("name", ISAS)
def test_kernels_and_packed_weights_of_a_target_have_equal_blocks(name: str) -> None:
    assert find_target(name).layout.rows == ISAS[name].rows


@pytest.mark.parametrize("name", ISAS)
def test_llvm_knows_the_target(name: str) -> None:
    assert Target(dict(find_target(name).llvm)).kind.name == "llvm"


@pytest.mark.parametrize(("name", "feature"), [("avx512vnni", "avx512vnni"), ("avx2", "avx2"), ("avx2", "f16c")])
def test_llvm_gets_the_features_that_the_kernels_use(name: str, feature: str) -> None:
    assert tvm.get_global_func("target.target_has_feature")(feature, Target(dict(find_target(name).llvm)))
