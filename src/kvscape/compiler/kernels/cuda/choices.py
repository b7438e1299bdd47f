"""What is asked of logits (source/choices.cuh)."""

from typing import Any

from kvscape.compiler.kernels.cuda.host import Argument, Host
from kvscape.compiler.kernels.kernel import Kernel, Operator

THREADS = 1024


def logprobs(op: Operator) -> Kernel:
    V = op.shape(0)[-1]
    return Kernel("logprobs", lambda: logprobs_function(V), op.tensors)


def greedy(op: Operator) -> Kernel:
    V = op.shape(0)[-1]
    return Kernel("greedy", lambda: greedy_function(V), op.tensors, inplace=(1,))


def logprobs_function(V: int) -> Any:
    """Arguments: logits f32 [r, V], token_ids int32 [r]; y f32 [r] = logit - log(sum(exp(logits)))."""
    host = Host("logprobs")
    logits, ids = host.tensor("logits", ("r", V), "float32"), host.tensor("ids", ("r",), "int32")
    arguments = [logits, ids, host.tensor("y", ("r",), "float32"), Argument("int", "V", V)]
    return host.function(host.launch("logprobs(logits, ids, y, V)", arguments, [host.size("r")], THREADS))


def greedy_function(V: int) -> Any:
    """Arguments: logits f32 [r, V]; y int32 [r], the first of the largest."""
    host = Host("greedy")
    logits, y = host.tensor("logits", ("r", V), "float32"), host.tensor("y", ("r",), "int32")
    arguments = [logits, y, Argument("int", "V", V)]
    return host.function(host.launch("greedy(logits, y, V)", arguments, [host.size("r")], THREADS))
