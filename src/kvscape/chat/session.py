"""What was said so far, kept within the context window."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvscape.errors import CapacityError
from kvscape.tokenizer import Message

CountTokens = Callable[[Sequence[Message]], int]
"""The number of tokens of the prompt that some messages make."""


@dataclass(frozen=True)
class Turn:
    """A question and its answer."""

    question: str
    answer: str


class ChatSession:
    """The history of a conversation.

    A prompt may have ``max_prompt_tokens``; when the history is longer, its oldest turns are forgotten, never the
    system prompt.
    """

    def __init__(self, count_tokens: CountTokens, max_prompt_tokens: int, system: str | None = None) -> None:
        self.system = system
        self._count_tokens = count_tokens
        self._max_prompt_tokens = max_prompt_tokens
        self._turns: list[Turn] = []
        self._first_known = 0

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns that the model still knows, oldest first."""
        return tuple(self._turns[self._first_known :])

    @property
    def all_turns(self) -> tuple[Turn, ...]:
        """Every turn, those too that no longer fit the context."""
        return tuple(self._turns)

    def messages(self, question: str) -> list[Message]:
        """Return the prompt's messages, ending with ``question``, and forget the turns that do not fit before it.

        Raises CapacityError when the question alone does not fit: then nothing is forgotten.
        """
        places = range(self._first_known, len(self._turns) + 1)
        first = next((place for place in places if self._fits(self._from_turn(place, question))), None)
        if first is None:
            raise self._too_long(question)
        self._first_known = first
        return self._from_turn(first, question)

    def add(self, question: str, answer: str) -> None:
        """Remember a turn; an answer that was stopped is remembered as far as it came."""
        self._turns.append(Turn(question, answer))

    def reset(self) -> None:
        """Forget all turns, not the system prompt."""
        self.go_on_from(())

    def go_on_from(self, turns: Sequence[Turn]) -> None:
        """Take other turns for those that were said."""
        self._turns, self._first_known = list(turns), 0

    def _from_turn(self, first: int, question: str) -> list[Message]:
        messages: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self._turns[first:]:
            messages.append({"role": "user", "content": turn.question})
            messages.append({"role": "assistant", "content": turn.answer})
        return [*messages, {"role": "user", "content": question}]

    def _fits(self, messages: Sequence[Message]) -> bool:
        return self._count_tokens(messages) <= self._max_prompt_tokens

    def _too_long(self, question: str) -> CapacityError:
        tokens = self._count_tokens(self._from_turn(len(self._turns), question))
        return CapacityError(
            "the message does not fit the context",
            f"it makes a prompt of {tokens} tokens, {self._max_prompt_tokens} are free for one",
            "shorten it or raise --context-window-size",
        )
