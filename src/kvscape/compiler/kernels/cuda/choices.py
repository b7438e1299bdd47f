"""What is asked of logits (source/choices.cuh, draws.cuh, edits.cuh)."""

from typing import Any

from tvm import tirx

from kvscape.compiler.kernels.cuda.host import Argument, Host, blocks
from kvscape.compiler.kernels.kernel import Kernel, Operator

THREADS = 1024
DRAW_INTS = 10  # of struct Draw
MOST_DRAWN_FROM = 1 << 18  # tokens: the weights of more would not fit into 64 bits
ROOM_INTS = 6472  # of struct Room
_ROOMS = 64  # are taken at once, so that few sizes of memory are kept
_PART = 4096  # tokens of a row that one block reads
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
    V, c = op.shape(0)[-1], op.shape(1)[0]
    rooms = ((blocks(c, _ROOMS) * _ROOMS, ROOM_INTS), "int32")
    return Kernel("sample", lambda: sample_function(V), op.tensors, inplace=(2,), scratch=(rooms,))


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


def greedy_function(V: int, name: str = "greedy") -> Any:
    """Arguments: logits f32 [r, V]; y int32 [r], the first of the largest."""
    host = Host(name)
    logits, y = host.tensor("logits", ("r", V), "float32"), host.tensor("y", ("r",), "int32")
    arguments = [logits, y, Argument("int", "V", V)]
    return host.function(host.launch("greedy(logits, y, V)", arguments, [host.size("r")], THREADS))


def sample_function(V: int, name: str = "sample") -> Any:
    """Arguments: logits f32 [r, V], draws int32 [c, 10]: row, top_k, then f64 numbers; y int32 [c]; a room for each."""
    host = Host(name)
    logits = host.tensor("logits", ("r", V), "float32")
    draws, y = host.tensor("draws", ("c", DRAW_INTS), "int32"), host.tensor("y", ("c",), "int32")
    inputs, size = [logits, draws, host.tensor("rooms", ("rooms", ROOM_INTS), "int32")], Argument("int", "V", V)
    room, c = f"room_of<{4 * ROOM_INTS}>(rooms)", host.size("c")
    parts, one = [c, -(-V // _PART)], [c]
    stages = (("peaks", parts), ("bins", parts), ("candidates", parts), ("edge", one), ("sums", parts))
    launches = [
        host.launch(f"draw_{stage}(logits, draws, {room}, V)", [*inputs, size], grid, THREADS) for stage, grid in stages
    ]
    token = host.launch(f"draw_token(logits, draws, {room}, y, V)", [*inputs, y, size], one, THREADS)
    return host.function(tirx.SeqStmt([*launches, token]))


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


def token_logprobs_function(V: int, name: str = "token_logprobs") -> Any:
    """Arguments: logits f32 [r, V]; asked int32 [c, 2]: row, token; y int32 [c, 1 + 2 n]: the bits of the token's f32
    log-probability, the n likeliest tokens, best first, and theirs.
    """
    host = Host(name)
    logits, asked = host.tensor("logits", ("r", V), "float32"), host.tensor("asked", ("c", 2), "int32")
    y, width = host.tensor("y", ("c", "width"), "int32"), Argument("int", "width", host.size("width"))
    arguments = [logits, asked, y, Argument("int", "V", V), width]
    call = "token_logprobs(logits, asked, y, V, width)"
    return host.function(host.launch(call, arguments, [host.size("c")], THREADS))
