"""What came of one request to a server."""

from dataclasses import dataclass, field

OK = "ok"


@dataclass
class Answer:
    """Times are seconds after the start of the run: when it was due, was sent, and when each piece of text came.

    ``status`` is ``ok``, an HTTP status, or what went wrong: ``timeout``, ``connection``, ``cut`` (a stream that ended
    too early), ``error`` (one that a server's error ended), ``malformed`` (what is no OpenAI stream).
    ``refused`` counts the 429 that were tried again.
    Token counts are the server's own (``usage``), or None where it gave none.
    """

    asked_s: float
    wanted_tokens: int
    sent_s: float = 0.0
    ended_s: float = 0.0
    pieces_s: list[float] = field(default_factory=list)
    characters: int = 0
    prompt_tokens: int | None = None
    usage_tokens: int | None = None
    status: str = "connection"
    reason: str = ""
    refused: int = 0

    @property
    def is_ok(self) -> bool:
        return self.status == OK

    @property
    def output_tokens(self) -> int:
        """What the server says, else the pieces of text that came."""
        if self.usage_tokens is not None:
            return self.usage_tokens
        return len(self.pieces_s) if self.characters else 0  # the end of an empty answer counts as its time alone

    @property
    def ttft_s(self) -> float:
        return self.pieces_s[0] - self.asked_s

    @property
    def e2e_s(self) -> float:
        return self.pieces_s[-1] - self.asked_s

    @property
    def tpot_s(self) -> float | None:
        """(E2E - TTFT) / (output tokens - 1); of one token there is none."""
        later = self.output_tokens - 1
        return (self.pieces_s[-1] - self.pieces_s[0]) / later if later > 0 else None
