"""Candidates for products of many tokens, on a processor and compiled: benchmarks/gpu_products.py on a GPU."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulated import EmulatedKernels, needs_emulation

from kvscape.compiler.device_code import compiled

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# Weights that tensor cores read as they are, with minima and gates, and in groups of 40: gpu_products.py checks all.
FORMS = (("f16", ""), ("q4af16_1", "swiglu"), ("q3f16_1", ""))


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("gpu_products")


@needs_emulation
def test_candidates_give_the_bits_of_the_product_in_use(products: Any, tmp_path: Path) -> None:
    """Rows, tokens and columns that end within a tile, and several tiles for each block."""
    chosen = [each for each in products.CHECKS if (each.weights, each.gate) in FORMS]
    named = (named for each in chosen for named in products.functions(each, processors=3))
    emulated = EmulatedKernels(named, tmp_path, "sm_90", products.instead(barriers=""))
    assert list(products.differing(emulated, chosen, (300,), np.random.default_rng(0))) == []


def test_candidates_compile_for_an_h100(products: Any) -> None:
    chosen = [each for each in products.CHECKS if (each.weights, each.gate) in FORMS[1:]]
    named = dict(named for each in chosen for named in products.functions(each))
    code = compiled(named.values(), "sm_90", products.instead())
    assert all(f"{name}_0".encode() in code.cubin for name in named)


def test_what_builds_for_a_gpu_does_not_load_the_runtime_alone() -> None:
    """With which nothing can be built."""
    code = "import sys, gpu_products; sys.exit('tvm' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(BENCHMARKS), *sys.path])}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
