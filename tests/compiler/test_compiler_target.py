import platform

import pytest
import tvm
from tvm.target import Target

from kvscape.compiler import target
from kvscape.compiler.kernels.cpu.isa import ISAS
from kvscape.compiler.target import detect_target, find_target, runs_here
from kvscape.errors import ConfigError

AVX2 = ("avx2", "fma", "f16c")
FEATURES = [
    ("avx512vnni", "avx512vnni"),
    ("avxvnni", "avxvnni"),
    ("avx2", "avx2"),
    ("avx2", "f16c"),
    ("neon", "neon"),
    ("neon", "dotprod"),
]
VNNI = (*AVX2, "avx512f", "avx512bw", "avx512vl", "avx512_vnni")


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (VNNI, "avx512vnni"),
        ((*VNNI, "amx_int8", "avx_vnni"), "avx512vnni"),
        ((*AVX2, "avx_vnni"), "avxvnni"),
        ((*VNNI[:-1], "avx_vnni"), "avxvnni"),
        (("avx2", "avx_vnni"), "generic"),
        (AVX2, "avx2"),
        (VNNI[:-1], "avx2"),
        ((*AVX2, "asimddp"), "avx2"),
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


@pytest.mark.parametrize("machine", ["aarch64", "arm64"])
@pytest.mark.parametrize(("features", "expected"), [(("asimddp",), "neon"), ((), "generic"), (VNNI, "generic")])
def test_arm_with_the_dot_product_gets_neon(
    monkeypatch: pytest.MonkeyPatch, machine: str, features: tuple[str, ...], expected: str
) -> None:
    monkeypatch.setattr(target, "cpu_features", lambda: features)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert detect_target().name == expected


def test_a_third_architecture_gets_the_generic_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "cpu_features", lambda: (*VNNI, "asimddp"))
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert detect_target().name == "generic"


@pytest.mark.parametrize(
    ("machine", "name", "expected"),
    [
        ("x86_64", "avx2", None),
        ("AMD64", "avx512vnni", None),
        ("aarch64", "avx2", "x86_64-linux-gnu"),
        ("x86_64", "neon", "aarch64-linux-gnu"),
        ("arm64", "neon", None),
        ("riscv64", "generic", None),
    ],
)
def test_code_is_for_this_system_or_for_linux_on_another_architecture(
    monkeypatch: pytest.MonkeyPatch, machine: str, name: str, expected: str | None
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert find_target(name).llvm.get("mtriple") == expected


def test_what_a_processor_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "cpu_features", lambda: AVX2)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert {name: runs_here(name) for name in ISAS} == {
        "avx512vnni": False,
        "avxvnni": False,
        "avx2": True,
        "neon": False,
        "generic": True,
    }
    assert (find_target("avxvnni").lacking, find_target("neon").lacking) == (("avx_vnni",), ("aarch64",))


def test_an_unknown_target_is_an_error_that_names_the_near_match() -> None:
    with pytest.raises(ConfigError, match="unknown target 'avx3'; did you mean 'avx2'"):
        find_target("avx3")


@pytest.mark.parametrize("name", ISAS)
def test_kernels_and_packed_weights_of_a_target_have_equal_blocks(name: str) -> None:
    assert find_target(name).layout.rows == ISAS[name].rows


@pytest.mark.parametrize("name", ISAS)
def test_llvm_knows_the_target(name: str) -> None:
    assert Target(dict(find_target(name).llvm)).kind.name == "llvm"


@pytest.mark.parametrize(("name", "feature"), FEATURES)
def test_llvm_gets_the_features_that_the_kernels_use(name: str, feature: str) -> None:
    assert tvm.get_global_func("target.target_has_feature")(feature, Target(dict(find_target(name).llvm)))
