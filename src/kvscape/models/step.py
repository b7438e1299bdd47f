"""The inputs of one forward pass, as the compiled function takes them."""

from dataclasses import dataclass
from typing import Any

from tvm.relax.frontend import nn

from kvscape.models.ops import Tensor


@dataclass
class Cache:
    """One layer group's KV pool, with where this step's tokens go and where each sequence's pages are.

    ``tails`` holds the keys of groups that are not complete yet, where keys are rounded in groups. ``window`` is
    (sinks, recent); ``sink_positions`` are those of the queries that meet the sinks.
    """

    pool: Tensor
    tails: Tensor
    slots: Tensor
    page_tables: Tensor
    window: Tensor
    sink_positions: Tensor


@dataclass
class Step:
    """A ragged batch: tokens of all sequences one behind the other.

    ``sequences`` has, for each, its first token, how many there are, its tail, and the first of its key groups.
    ``seen`` [1] is the number of tokens that a query of this engine may see at most.
    """

    token_ids: Tensor
    positions: Tensor
    sequences: Tensor
    tiles: Tensor
    pieces: Tensor
    logit_rows: Tensor
    caches: list[Cache]
    seen: Tensor


def step_spec(groups: int) -> dict[str, Any]:
    """Names, shapes and dtypes of ``forward``'s arguments; each layer group has its own pages."""
    spec: dict[str, Any] = {
        "token_ids": nn.spec.Tensor(["n"], "int32"),
        "positions": nn.spec.Tensor(["n"], "int32"),
        "sequences": nn.spec.Tensor(["s", 4], "int32"),
        "tiles": nn.spec.Tensor(["t", 5], "int32"),
        "pieces": nn.spec.Tensor(["m"], "int32"),
        "logit_rows": nn.spec.Tensor(["r"], "int32"),
    }
    arguments: tuple[tuple[str, list[str | int], str], ...] = (
        ("slots", ["n"], "int32"),
        ("page_tables", ["s", "w"], "int32"),
        ("windows", [2], "int32"),
        ("sink_positions", ["n"], "int32"),
        ("pools", ["layers", "pages", "page_bytes"], "uint8"),
        ("tails", ["layers", "tails", "tail_elements"], "float16"),
    )
    for kind, shape, dtype in arguments:
        each = [nn.spec.Tensor([_own(axis, group) for axis in shape], dtype) for group in range(groups)]
        spec[kind] = tuple(each)
    spec["seen"] = nn.spec.Tensor([1], "int32")
    return spec


def _own(axis: str | int, group: int) -> str | int:
    """Tokens and sequences are common to all groups; the other lengths are a group's own."""
    return axis if axis in ("n", "s") or isinstance(axis, int) else f"{axis}{group}"
