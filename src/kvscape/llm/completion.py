"""What a prompt was answered."""

from collections.abc import Sequence
from dataclasses import dataclass

from kvscape.engine.metrics import RequestMetrics
from kvscape.engine.request import FinishReason, Output
from kvscape.engine.token_logprob import TokenLogprob


@dataclass(frozen=True)
class Choice:
    """One answer; ``logprobs`` has an entry for each token when they were asked for."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...]
    metrics: RequestMetrics

    @classmethod
    def joined(cls, outputs: Sequence[Output]) -> "Choice":
        """Put an answer together from all of its outputs."""
        last = outputs[-1]
        assert last.finish_reason is not None and last.metrics is not None
        return cls(
            text="".join(output.text for output in outputs),
            token_ids=tuple(token for output in outputs for token in output.token_ids),
            finish_reason=last.finish_reason,
            logprobs=tuple(logprob for output in outputs for logprob in output.logprobs),
            metrics=last.metrics,
        )


@dataclass(frozen=True)
class Completion:
    """The answers to one prompt, ``SamplingParams.n`` of them; its own text and tokens are those of the first."""

    prompt_token_ids: tuple[int, ...]
    choices: tuple[Choice, ...]

    @property
    def text(self) -> str:
        return self.choices[0].text

    @property
    def token_ids(self) -> tuple[int, ...]:
        return self.choices[0].token_ids

    @property
    def finish_reason(self) -> FinishReason:
        return self.choices[0].finish_reason

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...]:
        return self.choices[0].logprobs

    @property
    def metrics(self) -> RequestMetrics:
        return self.choices[0].metrics
