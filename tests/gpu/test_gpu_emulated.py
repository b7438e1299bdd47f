"""The numbers of the CUDA kernels, on a processor: what tests/gpu/kernels.py asks of a GPU, in small."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import attention_checks
import kernels
import numpy as np
import pytest
from emulated import EmulatedKernels, needs_emulation

pytestmark = needs_emulation
WEIGHTS = ("f16", "q8f16_1", "q4f16_1", "q4af16_1", "q3f16_1")
ATTENTION = [heads.title for heads in attention_checks.HEADS if heads.D == 32]


SIZES = kernels.Sizes(
    shapes=(kernels.Shape(96, 96),),
    tokens=(1, 9, 20),
    vocab=9_000,  # more tokens than are gathered
    draws=1,
    steps=(
        attention_checks.Seen("window", (330, 40), (17, 1), 4, 137),  # some of 17 see the key 192
        attention_checks.Seen("split", (1, 64, 130), (1, 1, 1), 4, 90, split=True),
    ),
)


@pytest.mark.parametrize("part", ["rows", "choices", "draws", "edits", "linear f16", "linear q", *ATTENTION])
def test_kernels_say_on_a_processor_what_float64_says(part: str, tmp_path: Path) -> None:
    says_what_float64_says(kernels.chosen(part, replace(SIZES, architecture="sm_80")), tmp_path, "sm_80")


@pytest.mark.parametrize("processors", [1, 3])
def test_warpgroups_say_what_single_warps_say(processors: int, tmp_path: Path) -> None:
    """Several stages in each range of columns, the last one not whole; rows and tokens that end within a tile; wide and
    narrow tiles, and several for a block."""
    sizes = replace(SIZES, shapes=(kernels.Shape(160, 1448),), tokens=(1, 20, 136), processors=processors)
    parts = [part for name in WEIGHTS for part in kernels.chosen(f"linear {name}", sizes)]
    says_what_float64_says(parts, tmp_path, "sm_90")


def test_some_tokens_say_what_few_say(tmp_path: Path) -> None:
    """Rows that end within a block, several chunks in each range, more of them than are under way at once."""
    shapes = kernels.Shape(96, 1448, "whole"), kernels.Shape(64, 1448, "split")
    sizes = replace(SIZES, shapes=shapes, tokens=(1, 17, 40), architecture="sm_80")
    parts = [part for name in ("f16", "q3f16_1") for part in kernels.chosen(f"linear {name}", sizes)]
    says_what_float64_says(parts, tmp_path, "sm_80")


def says_what_float64_says(parts: Sequence[kernels.Part], folder: Path, architecture: str) -> None:
    emulated = EmulatedKernels((named for each in parts for named in each.functions()), folder, architecture)
    checked = [one for each in parts for one in each.check(emulated, np.random.default_rng(0))]
    assert checked and all(one.is_good for one in checked), "\n".join(map(str, checked))


def test_what_compiles_them_has_not_loaded_the_runtime_alone() -> None:
    code = "import sys, kernels; sys.exit('kvscape.engine.devices.runtime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent).returncode == 0
