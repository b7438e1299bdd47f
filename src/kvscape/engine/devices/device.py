"""What the engine asks of a device: one ragged forward serves prefill, decode, mixed batches and scoring."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from kvscape.artifact import LibraryMetadata
from kvscape.config import ModelConfig, Window
from kvscape.engine.guide import BoolArray
from kvscape.engine.token_logprob import TokenLogprob

IntArray: TypeAlias = npt.NDArray[np.int32]
FloatArray: TypeAlias = npt.NDArray[np.float32]
Changes: TypeAlias = npt.NDArray[Any]
"""Of ``CHANGE``."""

CHANGE = np.dtype([("token_id", np.int32), ("positive", np.float32), ("other", np.float32), ("offset", np.float32)])
"""A logit is multiplied by ``positive`` where it is above 0, else by ``other``; then ``offset`` is added."""


class StepInput(NamedTuple):
    """The tokens of one step: n tokens of s sequences, r rows of logits wanted; all numbers are Python's.

    There are few of them while decoding, and an array for each quantity would cost more than its contents.

    The tokens of sequence i are ``query_starts[i]`` to ``query_starts[i + 1]``, in order of position; sequences with
    one token come first. A token sees the keys of its own sequence up to its own position, those of this step included.
    """

    token_ids: Sequence[int]
    """[n]"""
    positions: Sequence[int]
    """[n] places in the sequence, from 0."""
    query_starts: Sequence[int]
    """[s + 1]"""
    kv_lengths: Sequence[int]
    """[s] keys present after this step."""
    slots: Sequence[Sequence[int]]
    """[n] per layer group: page x page_size + offset, where the token's key and value go."""
    page_tables: Sequence[Sequence[Sequence[int]]]
    """[s, w] per layer group: the pages of each sequence in order; what lies past its last page is 0, never read.

    Those from the beginning of an unfinished group of keys on are the sequence's own: its keys are written there, for
    all of its tokens, when it is complete.
    """
    windows: Sequence[Window]
    """Per layer group: what a query sees; pages that it does not see may be gone."""
    logit_rows: Sequence[int]
    """[r] tokens whose logits are wanted, ascending; r may be 0."""
    tails: Sequence[int]
    """[s] where each sequence keeps the keys of its unfinished group; no two sequences have the same place."""


class Edits(NamedTuple):
    """What is done to a row of logits before a token is drawn from it; what else is asked of it is as before."""

    changes: Changes
    """[e] of different tokens."""
    allowed: BoolArray | None
    """[vocab_size]: the other tokens cannot come."""


class Draw(NamedTuple):
    """How one token is drawn from a row of logits: edits, temperature, top-k, top-p and min-p, in this order.

    With ``temperature`` 0 it is the likeliest one. Tokens equal to the last that is kept stay too. Of what is kept, in
    the order of the ids, it is the first up to which the probabilities are more than ``uniform`` of their sum.
    """

    row: int
    top_k: int
    temperature: float
    top_p: float
    min_p: float
    uniform: float
    """[0, 1)"""
    edits: Edits | None = None


class Asked(NamedTuple):
    """A token in a row of logits whose log-probability is asked for, with those of the ``number`` likeliest ones."""

    row: int
    token_id: int
    number: int


class KVPools(Protocol):
    """The pages of all layer groups, allocated; they change in place."""

    @property
    def nbytes(self) -> int:
        """Sum of the allocated tensors' sizes."""


class Logits(Protocol):
    """Logits that stay on the device; valid until the next forward."""

    @property
    def shape(self) -> tuple[int, int]:
        """(r, vocab_size)."""


class Device(Protocol):
    """A loaded library with its weights."""

    @property
    def model(self) -> ModelConfig: ...

    @property
    def metadata(self) -> LibraryMetadata: ...

    def allocate(
        self, kv_dtype: str, num_pages: Sequence[int], page_size: int, num_tails: int, seen_tokens: int = 0
    ) -> KVPools:
        """Allocate ``num_pages[g]`` pages for each layer of layer group g, and ``num_tails`` tails for every layer.

        ``seen_tokens`` a query may see at most: some models rotate keys otherwise where it is many.
        """

    def copy(self, pools: KVPools, pages: Sequence[IntArray], tails: IntArray) -> None:
        """Copy pages of each layer group, and tails, in all layers: [c, 2], source and destination, in order.

        No destination is the source of a later copy.
        """

    def forward(self, step: StepInput, pools: KVPools) -> Logits:
        """Append the step's keys and values to ``pools`` and return the wanted rows of logits."""

    def logprobs(self, logits: Logits, token_ids: Sequence[int]) -> FloatArray:
        """Log softmax of each row at its token: [r] -> [r]."""

    def greedy(self, logits: Logits) -> list[int]:
        """The likeliest token of each row, the lowest id among equals: [r]."""

    def sample(self, logits: Logits, draws: Sequence[Draw]) -> list[int]:
        """The token of each draw."""

    def token_logprobs(self, logits: Logits, asked: Sequence[Asked]) -> list[TokenLogprob]:
        """Log softmax of each asked row at its token and at the likeliest ones, the lowest id first among equals."""

    def fetch(self, logits: Logits) -> FloatArray:
        """The logits themselves, on the host: [r, vocab_size]."""
