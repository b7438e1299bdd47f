"""Every error kvscape expects. A message says what went wrong, why, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class KvscapeError(Exception):
    """Root of all expected errors. Commands print it in one line and exit with status 2."""

    def __init__(self, what: str, why: str = "", do: str = "") -> None:
        self.what, self.why, self.do = what, why, do
        super().__init__(what, why, do)

    def __str__(self) -> str:
        what, why, do = (" ".join(part.split()) for part in (self.what, self.why, self.do))
        text = f"{what}: {why}" if why else what
        return f"{text}; {do}" if do else text


class ConfigError(KvscapeError):
    """A flag, an override or a study file asks for something that does not exist or does not fit."""


class HubError(KvscapeError):
    """A model's name does not resolve to a local folder."""


class WeightsError(KvscapeError):
    """A weight file is damaged, incomplete or in an unknown layout."""


class UnsupportedModelError(KvscapeError):
    """The model's architecture, tokenizer or tensor type is not implemented."""


class ArtifactError(KvscapeError):
    """A compiled artefact is missing, damaged or does not match the request."""


class DeviceError(KvscapeError):
    """A device cannot run here."""


class CapacityError(KvscapeError):
    """A request does not fit the context window or the KV cache, or the KV cache not the memory."""


class EngineError(KvscapeError):
    """A request failed while the engine worked on it; the others went on."""


class QueueFullError(KvscapeError):
    """More requests wait than may; ``retry_after_s`` is about when the next place is free."""

    def __init__(self, what: str, why: str = "", do: str = "", *, retry_after_s: float) -> None:
        super().__init__(what, why, do)
        self.retry_after_s = retry_after_s


class StoppedError(KvscapeError):
    """The engine takes no requests any more: it is stopping, or it failed."""


class ResultsError(KvscapeError):
    """Records or tables cannot be read, or do not hold what a report needs."""


class EndpointError(KvscapeError):
    """A server does not answer, or not as an OpenAI-compatible one does."""


class NotMetError(KvscapeError):
    """No design point meets the budget: commands exit with status 3."""


def near_match(word: str, known: Iterable[str]) -> str:
    """Say which known word was probably meant, or list them all."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(names)}"
