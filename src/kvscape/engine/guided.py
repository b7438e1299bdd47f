"""An answer that a guide leads: what it does to logits, and to the text."""

from collections.abc import Iterable

import numpy as np

from kvscape.engine.guide import BoolArray, Guide
from kvscape.engine.text import Detokenizer, TextStream
from kvscape.errors import EngineError


class Lead:
    """A guide, and the tokens that end an answer where it may end."""

    def __init__(self, guide: Guide, vocab_size: int, eos_token_ids: Iterable[int]) -> None:
        self.guide = guide
        self._vocab_size, self._eos_token_ids = vocab_size, list(eos_token_ids)

    def allowed(self) -> BoolArray:
        """Which tokens may come next: [vocab_size]; raise EngineError if none may."""
        known = self.guide.allowed()[: self._vocab_size]
        allowed = np.zeros(self._vocab_size, np.bool_)
        allowed[: len(known)] = known
        allowed[self._eos_token_ids] = self.guide.may_end
        if not allowed.any():
            raise EngineError("no token is allowed here", "the guide can neither go on nor end", "correct the guide")
        return allowed


class GuidedText(TextStream):
    """Text whose tokens the guide is told of; it stops where the guide is complete, too."""

    def __init__(self, detokenizer: Detokenizer | None, stop: tuple[str, ...], guide: Guide) -> None:
        super().__init__(detokenizer, stop)
        self._guide = guide

    @property
    def stopped(self) -> bool:
        return super().stopped or self._guide.complete

    def add(self, token_id: int) -> str:
        self._guide.accept(token_id)
        return super().add(token_id)
