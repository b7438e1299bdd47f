"""A converted and compiled model runs in a process that has TVM's runtime, and nothing else: no compiler, no linker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from built_tiny import BuildTiny

PROGRAM = """
import sys
from pathlib import Path
from kvscape.config import EngineConfig
from kvscape.engine import Engine, Request, SamplingParams
from kvscape.engine.devices.cpu import CpuDevice

engine = Engine(CpuDevice(Path(sys.argv[1]), Path(sys.argv[2]), 1), EngineConfig(context_window_size=64))
engine.add(Request("one", (5, 6, 7), SamplingParams(max_tokens=3, ignore_eos=True)))
print(*[token for _ in range(3) for output in engine.step() for token in output.token_ids])
loaded = Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else ""
compiler = "tvm.relax" in sys.modules or "kvscape.compiler" in sys.modules
print("libtvm_compiler" in loaded, compiler, "torch" in sys.modules)
"""


@pytest.mark.parametrize("flag", [{"TVM_USE_RUNTIME_LIB": "1"}, {}])
def test_tokens_come_without_a_compiler(built_tiny: BuildTiny, flag: dict[str, str]) -> None:
    """``engine/devices/runtime.py`` asks for the runtime by itself."""
    built = built_tiny("auto")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TVM_")} | flag
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(built.library), str(built.packed_weights)],
        env={**environment, "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    tokens, rest = done.stdout.splitlines()
    assert len(tokens.split()) == 3
    assert rest == "False False False"
    assert not list(Path(built.library.parent).glob("*.so")), "nothing was linked on the way"
