"""A request while the engine works on it."""

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from kvscape.engine.guided import Lead
from kvscape.engine.metrics import RequestMetrics
from kvscape.engine.prompt_lookup import PromptLookup
from kvscape.engine.request import Request
from kvscape.engine.tally import Tally
from kvscape.engine.text import TextStream
from kvscape.engine.token_logprob import TopLogprobs

HOLE = -1  # in a page table: no query sees the page any more


class Status(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(eq=False)
class Sequence:
    """One choice of a request: prompt and answer so far, how much of them the KV cache holds, and in which pages.

    ``token_ids`` may be one token ahead of the cache: the newest token is computed in the next step, and the last one
    never is. ``page_names`` are the prefix cache's names of its first full pages. ``siblings`` are the other choices,
    until the prompt is computed.
    """

    request: Request
    text: TextStream
    metrics: RequestMetrics
    arrival: int = 0
    index: int = 0
    status: Status = Status.WAITING
    num_computed: int = 0
    page_tables: tuple[list[int], ...] = ()
    tail: int = -1
    """Its place among the tails; -1 while it has no pages."""
    page_names: list[bytes] = field(default_factory=list)
    prompt_logprobs: list[float] = field(default_factory=list)
    prompt_top_logprobs: list[TopLogprobs] = field(default_factory=list)
    siblings: list["Sequence"] = field(default_factory=list)
    lead: Lead | None = None
    draft: list[int] = field(default_factory=list)
    """Tokens that may follow and are computed in this step, too."""

    def __post_init__(self) -> None:
        self.token_ids = list(self.request.prompt_token_ids)
        self.lookup = PromptLookup()
        self.request_id = self.request.request_id
        self.is_plain = self.request.params.is_plain and self.lead is None
        self.tally = _tally(self.request)
        self._never_computed = 0 if self.request.generates else 1

    @property
    def order(self) -> tuple[int, int]:
        """Older ones first."""
        return self.arrival, self.index

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.request.prompt_token_ids)

    @property
    def output_token_ids(self) -> list[int]:
        return self.token_ids[self.num_prompt_tokens :]

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - len(self.request.prompt_token_ids)

    @property
    def num_to_compute(self) -> int:
        """Tokens the cache must hold before the next answer; a score needs no key of the prompt's last token."""
        return len(self.token_ids) - self._never_computed

    @property
    def num_pending(self) -> int:
        """Tokens that wait to be computed: 1 while decoding."""
        return len(self.token_ids) - self._never_computed - self.num_computed

    def token_after(self, position: int) -> int | None:
        """The token behind ``position``; None if it is not chosen yet."""
        return self.token_ids[position + 1] if position + 1 < len(self.token_ids) else None


def _tally(request: Request) -> Tally | None:
    """What penalties need to know of an answer; the prompt's tokens count for the repetition penalty alone."""
    params, prompt = request.params, request.prompt_token_ids
    return Tally(prompt if params.repetition_penalty != 1 else (), len(prompt)) if params.penalized else None


class Chunk(NamedTuple):
    """The tokens ``start`` to ``stop`` of one sequence, to be computed in one step."""

    sequence: Sequence
    start: int
    stop: int

    @property
    def token_ids(self) -> list[int]:
        return self.sequence.token_ids[self.start : self.stop]

    @property
    def logit_positions(self) -> list[int]:
        """Where logits choose the next token, or score a prompt token that is not scored yet."""
        sequence = self.sequence
        positions: list[int] = []
        if sequence.request.prompt_logprobs:
            first, end = len(sequence.prompt_logprobs), sequence.num_prompt_tokens - 1
            positions += range(max(self.start, first), min(self.stop, end))
        if self.stop == len(sequence.token_ids):
            positions.append(self.stop - 1)
        return positions
