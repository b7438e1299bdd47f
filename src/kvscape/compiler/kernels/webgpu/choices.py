"""What is asked of logits (source/greedy.wgsl, logprobs.wgsl)."""

from typing import Any

from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.kernels.webgpu.host import Host
from kvscape.compiler.kernels.webgpu.text import text


def logprobs(op: Operator) -> Kernel:
    V = op.shape(0)[-1]
    return Kernel("logprobs", lambda: logprobs_function(V), op.tensors)


def greedy(op: Operator) -> Kernel:
    V = op.shape(0)[-1]
    return Kernel("greedy", lambda: greedy_function(V), op.tensors, inplace=(1,))


def logprobs_function(V: int) -> Any:
    """Arguments: logits f32 [r, V], token_ids int32 [r]; y f32 [r] = logit - log(sum(exp(logits)))."""
    host = Host("logprobs")
    bindings = [
        host.tensor("logits", ("r", V), "float32").read("f32"),
        host.tensor("ids", ("r",), "int32").read("i32"),
        host.tensor("y", ("r",), "float32").write("f32"),
    ]
    return host.function(host.launch(text("sum", "logprobs", V=V), bindings, [], [host.size("r")]))


def greedy_function(V: int) -> Any:
    """Arguments: logits f32 [r, V]; y int32 [r], the first of the largest."""
    host = Host("greedy")
    bindings = [host.tensor("logits", ("r", V), "float32").read("f32"), host.tensor("y", ("r",), "int32").write("i32")]
    return host.function(host.launch(text("greedy", V=V), bindings, [], [host.size("r")]))
