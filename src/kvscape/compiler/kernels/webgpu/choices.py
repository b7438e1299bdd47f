"""What is asked of logits (source/greedy*.wgsl, logprobs.wgsl, draw.wgsl, edit.wgsl, token_logprobs.wgsl).

Results are new tensors; what an operator would write in place is not looked at.
"""

from typing import Any

from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.kernels.webgpu.host import Host, blocks
from kvscape.compiler.kernels.webgpu.text import text

PIECES = 64  # of a row that is looked through
DRAW_INTS = 6  # row, top_k, f32 1 / temperature, top_p of 2^32, f32 log(min_p), uniform of 2^32
_CANDIDATES = 1024


def logprobs(op: Operator) -> Kernel:
    V = op.shape(0)[-1]
    return Kernel("logprobs", lambda: logprobs_function(V), op.tensors)


def greedy(op: Operator) -> Kernel:
    r, V = op.shape(0)
    return Kernel("greedy", lambda: greedy_function(V), op.tensors[:1], scratch=(((r * PIECES * 2,), "float32"),))


def draw_ints(V: int) -> int:
    """Numbers that ``sample`` takes for each draw from V tokens."""
    return DRAW_INTS


def sample(op: Operator) -> Kernel:
    V = op.shape(0)[-1]
    return Kernel("sample", lambda: sample_function(V), op.tensors[:2])


def edit(op: Operator) -> Kernel:
    V = op.shape(0)[-1]
    return Kernel("edit", lambda: edit_function(V), op.tensors[:4])


def token_logprobs(op: Operator) -> Kernel:
    V = op.shape(0)[-1]
    return Kernel("token_logprobs", lambda: token_logprobs_function(V), op.tensors[:2])


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
    """Arguments: logits f32 [r, V]; y int32 [r], the first of the largest; what pieces of rows have, two words each."""
    host, length = Host("greedy"), blocks(V, PIECES)
    logits, y = host.tensor("logits", ("r", V), "float32"), host.tensor("y", ("r",), "int32")
    found, r, pieces = host.tensor("found", ("words",), "float32"), host.size("r"), blocks(V, length)
    piece, join = (text("greedy", f"greedy_{name}", V=V, PIECES=pieces, LENGTH=length) for name in ("piece", "join"))
    of_pieces = host.launch(piece, [logits.read("f32"), found.write("vec2<u32>")], [], [pieces, r])
    return host.function(of_pieces, host.launch(join, [found.read("vec2<u32>"), y.write("i32")], [], [r]))


def sample_function(V: int) -> Any:
    """Arguments: logits f32 [r, V], draws int32 [c, 6] as ``DRAW_INTS`` says; y int32 [c]."""
    host = Host("sample")
    bindings = [
        host.tensor("logits", ("r", V), "float32").read("f32"),
        host.tensor("draws", ("c", DRAW_INTS), "int32").read("i32"),
        host.tensor("y", ("c",), "int32").write("i32"),
    ]
    constants = {"V": V, "STRETCH": blocks(V, 256), "CANDIDATES": _CANDIDATES, "DRAW_INTS": DRAW_INTS}
    return host.function(host.launch(text("greedy", "draw", **constants), bindings, [], [host.size("c")]))


def edit_function(V: int) -> Any:
    """Arguments: logits f32 [r, V]; rows int32 [c, 4]: row, its changes from one up to another, its mask or -1; changes
    int32 [e, 4]: token, then f32 numbers; masks int32 [m, V / 32], a bit for each token; y f32 [c, V].
    """
    host, words = Host("edit"), blocks(V, 32)
    bindings = [
        host.tensor("logits", ("r", V), "float32").read("f32"),
        host.tensor("rows", ("c", 4), "int32").read("vec4<i32>"),
        host.tensor("changes", ("e", 4), "int32").read("vec4<i32>"),
        host.tensor("masks", ("m", words), "int32").read("u32"),
        host.tensor("y", ("c", V), "float32").write("f32"),
    ]
    stretch = blocks(V, PIECES)
    source = text("edit", V=V, WORDS=words, STRETCH=stretch)
    return host.function(host.launch(source, bindings, [], [host.size("c"), blocks(V, stretch)]))


def token_logprobs_function(V: int) -> Any:
    """Arguments: logits f32 [r, V], asked int32 [c, 2]: row, token; y int32 [c, 1 + 2 n]: the bits of the token's f32
    log-probability, the n likeliest tokens, best first, and theirs.
    """
    host = Host("token_logprobs")
    bindings = [
        host.tensor("logits", ("r", V), "float32").read("f32"),
        host.tensor("asked", ("c", 2), "int32").read("vec2<i32>"),
        host.tensor("y", ("c", "width"), "int32").write("i32"),
    ]
    source, numbers = text("greedy", "sum", "token_logprobs", V=V), [("width", host.size("width"))]
    return host.function(host.launch(source, bindings, numbers, [host.size("c")]))
