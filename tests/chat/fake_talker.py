"""Who answers without a model."""

from collections.abc import Callable, Iterator, Sequence

from kvscape.errors import ConfigError
from kvscape.tokenizer import Message

Answer = Callable[[str], Iterator[str]]


def echo(question: str) -> Iterator[str]:
    yield "you said "
    yield question


class FakeTalker:
    """Answers by a function of the question; remembers the prompts, and whether a stream was closed early."""

    def __init__(self, answer: Answer = echo) -> None:
        self.prompts: list[list[Message]] = []
        self.stopped = False
        self._answer, self._temperature = answer, 0.0

    @property
    def temperature(self) -> float:
        return self._temperature

    @temperature.setter
    def temperature(self, temperature: float) -> None:
        if not temperature >= 0:
            raise ConfigError(f"temperature = {temperature}", "it must be at least 0", "correct the value")
        self._temperature = temperature

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        self.prompts.append(list(messages))
        try:
            yield from self._answer(messages[-1]["content"])
        except GeneratorExit:
            self.stopped = True
            raise

    def stats(self) -> str:
        return "42 tokens/s"
