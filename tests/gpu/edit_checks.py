"""What requests do to their logits, and what is told of tokens, against numpy: equal to the last bit, and nearly so."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from checked import Array, Checked
from draw_checks import ODD

from kvscape.engine.devices.device import CHANGE, Asked, Draw, Edits
from kvscape.engine.draws import edited
from kvscape.engine.logprobs import token_logprobs
from kvscape.engine.token_logprob import TokenLogprob

Run = Callable[[str, Sequence[Any], Sequence[tuple[tuple[int, ...], str]]], list[Array]]
NEAR = 1e-5


def functions(vocab: int) -> Iterator[tuple[str, Any]]:
    from kvscape.compiler.kernels.cuda import choices

    yield "edit", choices.edit_function(vocab)
    yield "token_logprobs", choices.token_logprobs_function(vocab)
    yield "token_logprobs_odd", choices.token_logprobs_function(ODD, "token_logprobs_odd")


def some_edits(vocab: int, number: int, allowed: float, rng: np.random.Generator) -> Edits:
    """Changes of some tokens, the last one of them; a part of all is allowed, 1 for all."""
    made = np.empty(number, CHANGE)
    made["token_id"] = np.sort(rng.choice(vocab, number, replace=False))
    made["token_id"][-1:] = vocab - 1
    made["positive"], made["other"], made["offset"] = 1 / 1.3, 1.3, rng.standard_normal(number)
    made["other"][::7], made["offset"][::3] = 3e38, 0
    return Edits(made, None if allowed == 1 else rng.random(vocab) < allowed)


def some_draws(vocab: int, rng: np.random.Generator) -> list[Draw]:
    """Rows with and without edits, one of them twice."""
    edits = [some_edits(vocab, number, allowed, rng) for number, allowed in ((vocab // 3, 1), (1, 0.3), (0, 0.001))]
    rows = [(1, edits[0]), (0, None), (1, edits[1]), (2, edits[2]), (2, some_edits(vocab, 300, 0.5, rng))]
    return [Draw(row, 0, 0.0, 1.0, 0.0, 0.0, each) for row, each in rows]


def some_logits(vocab: int, rng: np.random.Generator) -> Array:
    """A row of made up numbers, one of few different ones, and one with both zeros."""
    rows = rng.standard_normal((3, vocab)).astype(np.float32) * 5
    rows[0, -1], rows[0, -2], rows[2, [5, 1029]] = 40, 39, 30  # more than all
    rows[1], rows[2, ::2] = rng.integers(-3, 4, vocab), np.where(rng.random(len(rows[2, ::2])) < 0.5, 0.0, -0.0)
    return rows


def check(vocab: int, kernels: Run, rng: np.random.Generator) -> Iterator[Checked]:
    # It loads TVM's runtime alone, with which nothing can be built.
    from kvscape.engine.devices.edit_arrays import edit_arrays

    logits, draws = some_logits(vocab, rng), some_draws(vocab, rng)
    wanted = np.stack([edited(logits[one.row], one.edits) if one.edits else logits[one.row] for one in draws])
    (y,) = kernels("edit", [logits, *edit_arrays(draws, vocab)], [((len(draws), vocab), "float32")])
    yield Checked("edit", 0.0, bool(np.array_equal(y, wanted)))
    for number in (0, 1, 20):
        yield _told("token_logprobs", logits, number, kernels)
    yield _told("token_logprobs_odd", some_logits(ODD, rng), 9, kernels)


def _told(name: str, logits: Array, number: int, kernels: Run) -> Checked:
    from kvscape.engine.devices.edit_arrays import asked_block, told, width_told

    vocab = logits.shape[1]
    asked = [Asked(row, token, number) for row, token in ((2, 0), (0, vocab - 1), (1, 77), (0, vocab // 2))]
    shape, numbers = asked_block(asked)
    inputs = [logits, np.array(numbers, np.int32).reshape(shape)]
    (found,) = kernels(name, inputs, [((len(asked), width_told(asked, vocab)), "int32")])
    return _compared(f"{name} {number}", told(found, asked), token_logprobs(logits, asked))


def _compared(name: str, found: Sequence[TokenLogprob], wanted: Sequence[TokenLogprob]) -> Checked:
    """Tokens must be the same."""
    tokens, values = zip(*(zip(*_pairs(told), strict=True) for told in (found, wanted)), strict=True)
    off = float(np.abs(np.subtract(*values)).max())
    return Checked(name, off, tokens[0] == tokens[1], NEAR)


def _pairs(found: Sequence[TokenLogprob]) -> Iterator[tuple[int, float]]:
    for one in found:
        yield from ((one.token_id, one.logprob), *one.top)
