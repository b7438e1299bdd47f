"""How a text is cut into windows and which of their tokens count. Figures of two protocols never compare."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from kvscape.errors import ConfigError, near_match


@dataclass(frozen=True)
class Window:
    """Tokens scored in one go. ``first_target`` is the index of the first token whose probability counts.

    Each of those counts ``weight`` times. They stand for ``words`` words of the text where the perplexity is that of
    words, and for ``text_bytes`` of its bytes, where those are known.
    """

    token_ids: list[int]
    first_target: int
    weight: float = 1.0
    words: float | None = None
    text_bytes: float | None = None

    @property
    def tokens_scored(self) -> int:
        return len(self.token_ids) - self.first_target


@dataclass(frozen=True)
class Protocol:
    """A way of cutting, the context and the stride that it has by default; a stride of 0 means that it has none."""

    cut: Callable[[Sequence[int], "Settings", int | None], Iterator[Window]]
    context: int
    stride: int = 0


@dataclass(frozen=True)
class Settings:
    """How perplexity is measured: named protocol, windows of ``context`` tokens, at most ``limit`` of them.

    ``stride`` is the distance of overlapping windows, or of the marks of a stream's curve. A context or a stride of 0
    becomes the protocol's own.
    """

    protocol: str = "windows"
    context: int = 0
    limit: int | None = None
    stride: int = 0

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ConfigError(f"unknown protocol {self.protocol!r}", "", near_match(self.protocol, PROTOCOLS))
        own = PROTOCOLS[self.protocol]
        object.__setattr__(self, "context", self.context or own.context)
        if self.context < 4:
            raise ConfigError(f"context = {self.context}", "a window has at least 4 tokens", "give a larger number")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit = {self.limit}", "at least one window is needed", "give a positive number")
        if self.limit is not None and self.protocol == "stream":
            raise ConfigError(f"limit = {self.limit}", "a stream is one sequence", "say its length by context")
        self._check_stride(own)

    def _check_stride(self, own: Protocol) -> None:
        if self.stride and not own.stride:
            raise ConfigError(f"stride = {self.stride}", f"{self.protocol} has none", "use the protocol 'stride'")
        object.__setattr__(self, "stride", self.stride or min(own.stride, self.context // 2))
        if not 0 <= self.stride <= self.context:
            why = f"it must be at least 1 and at most context = {self.context}"
            raise ConfigError(f"stride = {self.stride}", why, "give another number")

    @property
    def sequence_tokens(self) -> int:
        """The longest sequence that is scored: a document's window stands behind the token that begins it."""
        return self.context + (self.protocol == "word")

    def within(self, longest: int) -> "Settings":
        """The same with a context that a model made for ``longest`` tokens has."""
        context = min(self.context, longest - (self.sequence_tokens - self.context))
        return replace(self, context=context, stride=min(self.stride, context // 2))


def _with_bos(token_ids: Sequence[int], bos: int | None) -> Sequence[int]:
    return token_ids if bos is None else [bos, *token_ids]


def _chunks(token_ids: Sequence[int], context: int) -> Iterator[list[int]]:
    for start in range(0, len(token_ids) - context + 1, context):
        yield list(token_ids[start : start + context])


def windows(token_ids: Sequence[int], settings: Settings, bos: int | None) -> Iterator[Window]:
    """Non-overlapping windows, N - 1 tokens scored of each, as GPTQ and AWQ report it.

    ``bos``, where the model has one, stands before the text, once.
    """
    for chunk in _chunks(_with_bos(token_ids, bos), settings.context):
        yield Window(chunk, first_target=1)


def llamacpp(token_ids: Sequence[int], settings: Settings, bos: int | None) -> Iterator[Window]:
    """llama.cpp's ``perplexity``: the second half of each chunk is scored, 255 tokens of 512.

    Where the model adds a ``bos`` token it stands before the text and replaces each chunk's first token.
    """
    for chunk in _chunks(_with_bos(token_ids, bos), settings.context):
        yield Window(chunk if bos is None else [bos, *chunk[1:]], first_target=settings.context // 2 + 1)


def overlapping(token_ids: Sequence[int], settings: Settings, bos: int | None) -> Iterator[Window]:
    """Overlapping windows, each token scored once behind as much context as its window has: Hugging Face's guide.

    The guide averages a window's loss over the tokens that it scores, and weighs it by one token less than are new in
    the window, which is true of the first one only. So does ``weight``.
    """
    text = _with_bos(token_ids, bos)
    scored_to = 0
    for start in range(0, len(text), settings.stride):
        end = min(start + settings.context, len(text))
        if scored_to == 0 and end < settings.context:
            return
        count = end - scored_to
        first = max(1, end - start - count)  # without overlap nothing stands before a window's first token
        scored = end - start - first
        if scored:
            yield Window(list(text[start:end]), first, weight=(count - 1) / scored)
        scored_to = end
        if end == len(text):
            return


def one_stream(token_ids: Sequence[int], settings: Settings, bos: int | None) -> Iterator[Window]:
    """One sequence of at most ``context`` tokens, through whatever window and sinks the engine has."""
    text = _with_bos(token_ids, bos)[: settings.context]
    if len(text) > settings.stride:
        yield Window(list(text), first_target=1)


def rolling(token_ids: Sequence[int], settings: Settings, bos: int | None) -> Iterator[Window]:
    """Every token of a document, scored once: lm-evaluation-harness' rolling windows.

    The first one begins behind ``bos``. Each later one has one token of context, but the last one, which begins as far
    back as its size allows.
    """
    size, begin = settings.context, [] if bos is None else [bos]
    for start in range(0, len(token_ids), size):
        end = min(start + size, len(token_ids))
        if start == 0:
            first = [*begin, *token_ids[:end]]
            yield Window(first, first_target=1)
        else:
            yield Window(list(token_ids[end - size - 1 : end]), first_target=size + 1 - (end - start))


PROTOCOLS: Mapping[str, Protocol] = {
    "windows": Protocol(windows, 2048),
    "stride": Protocol(overlapping, 2048, 512),
    "llamacpp": Protocol(llamacpp, 512),
    "stream": Protocol(one_stream, 20_000, 1000),
    "word": Protocol(rolling, 2048),
}


def cut(token_ids: Sequence[int], settings: Settings, bos: int | None = None) -> list[Window]:
    """Cut a text into its windows; raise ConfigError when it does not fill one."""
    found = list(islice(PROTOCOLS[settings.protocol].cut(token_ids, settings, bos), settings.limit))
    if not found:
        stream = settings.protocol == "stream"
        raise ConfigError(
            f"the text has {len(token_ids)} tokens",
            f"more than {settings.stride} are needed" if stream else f"one window of {settings.context} is needed",
            f"give a longer text or a smaller {'stride' if stream else 'context'}",
        )
    return found
