"""The kernel ``sample`` as a library has it: the virtual machine gives it what it needs besides, in several sizes."""

from typing import Any

import numpy as np
import pytest
import tvm
from emulated import needs_emulation, register
from tvm import relax, tirx

from kvscape.compiler.backend import find_backend
from kvscape.compiler.device_code import launches_of
from kvscape.compiler.passes.memory_usage import MemoryUsage
from kvscape.compiler.passes.operators import emit_operator
from kvscape.compiler.pipeline import pipeline, run_pipeline
from kvscape.compiler.target import find_any_target
from kvscape.engine.devices.cuda.tensors import CudaDraws
from kvscape.engine.devices.device import Draw
from kvscape.engine.draws import sampled

pytestmark = needs_emulation
VOCAB = 301


def lowered() -> Any:
    r, c = tirx.Var("r", "int64"), tirx.Var("c", "int64")
    types = ((r, VOCAB), "float32"), ((c, 10), "int32"), ((c,), "int32")
    given = [relax.Var(f"given_{index}", relax.TensorType(*each)) for index, each in enumerate(types)]
    builder = relax.BlockBuilder()
    with builder.function("sample", given):
        with builder.dataflow():
            result = builder.emit_output(emit_operator("sample", given, [given[-1].ty]))
        builder.emit_func_output(result)
    dispatch = find_backend(find_any_target("sm_90")).dispatch
    return run_pipeline(builder.get(), pipeline(dispatch, "float16", MemoryUsage(), lambda mod: mod))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Any:
    mod, folder = lowered(), tmp_path_factory.mktemp("emulated")
    launches = [launch for _, function in mod.functions_items() for launch in launches_of(function)]
    register(launches, folder, "sm_90")
    executable = relax.build(mod, "llvm", relax_pipeline=None)
    return tvm.runtime.vm.VirtualMachine(executable, [tvm.cpu()], "pooled")["sample"]


def test_tokens_are_written_where_they_are_wanted(sample: Any) -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((3, VOCAB)).astype(np.float32) * 3
    for number in (1, 65, 2, 65):
        draws = [Draw(i % 3, i % 5, 0.7, 1 - i % 2 / 10, 0.0, rng.random()) for i in range(number)]
        y = tvm.runtime.tensor(np.full(number, -1, np.int32))
        sample(tvm.runtime.tensor(logits), CudaDraws(tvm.cpu()).fill(draws), y)
        assert y.numpy().tolist() == sampled(logits, draws)
