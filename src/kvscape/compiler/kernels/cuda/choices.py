"""What is asked of logits (source/choices.cuh, draws.cuh)."""

from typing import Any

from kvscape.compiler.kernels.cuda.host import Argument, Host
from kvscape.compiler.kernels.kernel import Kernel, Operator

THREADS = 1024
DRAW_INTS = 10  # of struct Draw
MOST_DRAWN_FROM = 1 << 18  # tokens: the weights of more would not fit into 64 bits
_CANDIDATES_BYTES = 7680 * 12


def logprobs(op: Operator) -> Kernel:
    V = op.shape(0)[-1]
    return Kernel("logprobs", lambda: logprobs_function(V), op.tensors)


def greedy(op: Operator) -> Kernel:
    V = op.shape(0)[-1]
    return Kernel("greedy", lambda: greedy_function(V), op.tensors, inplace=(1,))


def draw_ints(V: int) -> int:
    """Numbers that ``sample`` takes for each draw from V tokens; 0 where they are too many for it."""
    return DRAW_INTS if V <= MOST_DRAWN_FROM else 0


def sample(op: Operator) -> Kernel:
    V = op.shape(0)[-1]
    return Kernel("sample", lambda: sample_function(V), op.tensors, inplace=(2,))


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


def sample_function(V: int) -> Any:
    """Arguments: logits f32 [r, V], draws int32 [c, 10]: row, top_k, then f64 numbers; y int32 [c]."""
    host = Host("sample")
    logits = host.tensor("logits", ("r", V), "float32")
    draws, y = host.tensor("draws", ("c", DRAW_INTS), "int32"), host.tensor("y", ("c",), "int32")
    arguments = [logits, draws, y, Argument("int", "V", V)]
    call = "sample(logits, draws, y, V)"
    return host.function(host.launch(call, arguments, [host.size("c")], THREADS, _CANDIDATES_BYTES))
