"""ScratchArgument: two gates one behind the other; what lies between them is scratch memory, and so are the logits."""

from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.script import tirx as T

from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.passes.memory_usage import MemoryUsage
from kvscape.compiler.passes.operators import emit_operator
from kvscape.compiler.pipeline import pipeline, run_pipeline


def product_of_halves(K: int) -> Any:
    """Its tensors may begin anywhere in their memory, as those of GPUs' kernels may."""

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def kernel(p_x: T.handle, p_y: T.handle) -> None:
        n, x_offset, y_offset = T.int64(), T.int64(), T.int64()
        x = T.match_buffer(p_x, (n, 2 * K), "float32", elem_offset=x_offset, offset_factor=1)
        y = T.match_buffer(p_y, (n, K), "float32", elem_offset=y_offset, offset_factor=1)
        for i, j in T.grid(n, K):
            with T.sblock("product"):
                y[i, j] = x[i, j] * x[i, j + K]

    return kernel


def lowered() -> Any:
    n, builder = tirx.Var("n", "int64"), relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((n, 64), "float32"))
    with builder.function("forward_f16", [x]):
        with builder.dataflow():
            half = builder.emit(emit_operator("swiglu", [x], [relax.TensorType((n, 32), "float32")]))
            quarter = builder.emit(emit_operator("swiglu", [half], [relax.TensorType((n, 16), "float32")]))
            result = builder.emit_output(relax.Tuple([quarter, x]))
        builder.emit_func_output(result)

    def gates(op: Operator) -> Kernel:
        K = op.shape(0)[1] // 2
        return Kernel(f"gate_{K}", lambda: product_of_halves(K), op.tensors)

    passes = pipeline(gates, "float32", MemoryUsage(), lambda mod: mod, scratch_argument=True)
    return run_pipeline(builder.get(), passes)


def test_a_step_computes_the_same_in_the_memory_that_it_is_given() -> None:
    executable = relax.build(lowered(), "llvm", relax_pipeline=None)
    vm = relax.VirtualMachine(executable, tvm.cpu())
    for tokens in (1, 5, 5):
        x = np.random.default_rng(tokens).standard_normal((tokens, 64)).astype(np.float32)
        (nbytes,) = vm["scratch_forward_f16"](tvm_ffi.Shape((tokens, 9, 9, 9)))
        assert nbytes == sum(-(-4 * tokens * K // 256) * 256 for K in (32, 16))
        scratch = tvm.runtime.tensor(np.full(nbytes, 0x7B, np.uint8))
        logits = vm["forward_f16"](tvm.runtime.tensor(x), scratch).numpy()
        np.testing.assert_array_equal(logits, x[:, :16] * x[:, 32:48] * (x[:, 16:32] * x[:, 48:]))
        assert logits.tobytes() in scratch.numpy().tobytes()
        with pytest.raises(ValueError, match="only contains"):
            vm["forward_f16"](tvm.runtime.tensor(x), tvm.runtime.tensor(np.zeros(nbytes - 256, np.uint8)))
