import os
import platform
from pathlib import Path

import pytest

from kvscape.analysis import cpu, free_memory
from kvscape.analysis.cpu import KNOWN_FEATURES, cpu_features, cpu_name, default_threads


def test_features_are_those_that_the_system_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_cpuinfo", lambda: {"flags": "sse avx2 f16c avx512_vnni", "model name": "Some CPU"})
    assert cpu_features() == ("avx2", "f16c", "avx512_vnni")
    assert cpu_name() == "Some CPU"


def test_features_as_arm_systems_name_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_cpuinfo", lambda: {"Features": "fp asimd aes asimddp fphp"})
    assert cpu_features() == ("asimddp",)
    monkeypatch.setattr(cpu, "_cpuinfo", lambda: {"Features": "fp asimd aes"})
    assert cpu_features() == ()


def test_a_mac_has_no_list_but_the_dot_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_cpuinfo", dict)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    for machine, features in (("arm64", ("asimddp",)), ("x86_64", ())):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        assert cpu_features() == features


def test_a_system_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_cpuinfo", dict)
    assert cpu_features() == ()
    assert cpu_name()


def test_this_machine() -> None:
    assert set(cpu_features()) <= set(KNOWN_FEATURES)
    assert 1 <= default_threads() <= (os.cpu_count() or 1)


def test_a_containers_limit_counts_where_it_is_lower(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(free_memory, "_CGROUP_LIMIT", limit)
    free = free_memory.available_memory_bytes()
    assert free > 1000
    limit.write_text("max\n")
    assert free_memory.available_memory_bytes() > 1000
    limit.write_text("1000\n")
    assert free_memory.available_memory_bytes() == 1000
