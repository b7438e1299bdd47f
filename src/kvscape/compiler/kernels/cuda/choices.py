"""What is asked of logits (source/choices.cuh, draws.cuh, edits.cuh)."""

from typing import Any

from kvscape.compiler.kernels.cuda.host import Argument, Host
from kvscape.compiler.kernels.kernel import Kernel, Operator

THREADS = 1024
DRAW_INTS = 10  # of struct Draw
MOST_DRAWN_FROM = 1 << 18  # tokens: the weights of more would not fit into 64 bits
_CANDIDATES_BYTES = 7680 * 12
_BLOCKS_OF_ROW = 16


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


def edit(op: Operator) -> Kernel:
    V = op.shape(0)[-1]
    return Kernel("edit", lambda: edit_function(V), op.tensors, inplace=(4,))


def token_logprobs(op: Operator) -> Kernel:
    V = op.shape(0)[-1]
    return Kernel("token_logprobs", lambda: token_logprobs_function(V), op.tensors, inplace=(2,))


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


def edit_function(V: int) -> Any:
    """Arguments: logits f32 [r, V]; rows int32 [c, 4]: row, its changes from one up to another, its mask or -1; changes
    int32 [e, 4]: token, then f32 numbers; masks int32 [m, V / 32], a bit for each token; y f32 [c, V].
    """
    host = Host("edit")
    logits, rows = host.tensor("logits", ("r", V), "float32"), host.tensor("rows", ("c", 4), "int32")
    changes, masks = host.tensor("changes", ("e", 4), "int32"), host.tensor("masks", ("m", -(-V // 32)), "int32")
    arguments = [logits, rows, changes, masks, host.tensor("y", ("c", V), "float32"), Argument("int", "V", V)]
    call = "edit(logits, rows, changes, masks, y, V)"
    return host.function(host.launch(call, arguments, [host.size("c"), _BLOCKS_OF_ROW], THREADS))


def token_logprobs_function(V: int) -> Any:
    """Arguments: logits f32 [r, V]; asked int32 [c, 2]: row, token; y int32 [c, 1 + 2 n]: the bits of the token's f32
    log-probability, the n likeliest tokens, best first, and theirs.
    """
    host = Host("token_logprobs")
    logits, asked = host.tensor("logits", ("r", V), "float32"), host.tensor("asked", ("c", 2), "int32")
    y, width = host.tensor("y", ("c", "width"), "int32"), Argument("int", "width", host.size("width"))
    arguments = [logits, asked, y, Argument("int", "V", V), width]
    call = "token_logprobs(logits, asked, y, V, width)"
    return host.function(host.launch(call, arguments, [host.size("c")], THREADS))
