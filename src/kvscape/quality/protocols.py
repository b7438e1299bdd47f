"""How a text is cut into windows and which of their tokens count. Figures of two protocols never compare."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from kvscape.errors import ConfigError, near_match


@dataclass(frozen=True)
class Window:
    """Tokens scored in one go. ``first_target`` is the index of the first token whose probability counts."""

    token_ids: list[int]
    first_target: int


Cut = Callable[[Sequence[int], int, int | None], Iterator[Window]]


def _chunks(token_ids: Sequence[int], context: int) -> Iterator[list[int]]:
    for start in range(0, len(token_ids) - context + 1, context):
        yield list(token_ids[start : start + context])


def windows(token_ids: Sequence[int], context: int, bos: int | None) -> Iterator[Window]:
    """Non-overlapping windows, N - 1 tokens scored of each, as GPTQ and AWQ report it; ``bos`` is not used."""
    for chunk in _chunks(token_ids, context):
        yield Window(chunk, first_target=1)


def llamacpp(token_ids: Sequence[int], context: int, bos: int | None) -> Iterator[Window]:
    """llama.cpp's ``perplexity``: the second half of each chunk is scored, 255 tokens of 512.

    Where the model adds a ``bos`` token it stands before the text and replaces each chunk's first token.
    """
    text = token_ids if bos is None else [bos, *token_ids]
    for chunk in _chunks(text, context):
        yield Window(chunk if bos is None else [bos, *chunk[1:]], first_target=context // 2 + 1)


PROTOCOLS: Mapping[str, Cut] = {"windows": windows, "llamacpp": llamacpp}


@dataclass(frozen=True)
class Settings:
    """How perplexity is measured: named protocol, window of ``context`` tokens, at most ``limit`` windows."""

    protocol: str = "windows"
    context: int = 512
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ConfigError(f"unknown protocol {self.protocol!r}", "", near_match(self.protocol, PROTOCOLS))
        if self.context < 4:
            raise ConfigError(f"context = {self.context}", "a window has at least 4 tokens", "give a larger number")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit = {self.limit}", "at least one window is needed", "give a positive number")


def cut(token_ids: Sequence[int], settings: Settings, bos: int | None = None) -> list[Window]:
    """Cut a text into its windows; raise ConfigError when it does not fill one."""
    found = list(islice(PROTOCOLS[settings.protocol](token_ids, settings.context, bos), settings.limit))
    if not found:
        raise ConfigError(
            f"the text has {len(token_ids)} tokens",
            f"one window of {settings.context} is needed",
            "give a longer text or a smaller context",
        )
    return found
