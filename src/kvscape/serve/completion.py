"""A text completion: what the engine answers, whole or as a stream."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from kvscape.engine.request import Output
from kvscape.engine.token_logprob import TokenLogprob
from kvscape.serve.answers import Answers
from kvscape.serve.completion_plan import CompletionPlan
from kvscape.serve.envelope import Envelope
from kvscape.serve.event_stream import Events
from kvscape.serve.protocol.completion import CompletionChoice, CompletionFinish, CompletionLogprobs, TextCompletion
from kvscape.serve.served_model import ServedModel
from kvscape.serve.token_logprobs import CompletionTokens, shown_logprobs

_KIND = "text_completion"


class Completion:
    """The answers to one plan."""

    def __init__(self, plan: CompletionPlan, answers: Answers, envelope: Envelope, model: ServedModel) -> None:
        self._plan, self._answers, self._envelope, self._model = plan, answers, envelope, model

    async def whole(self) -> TextCompletion:
        """All choices, when they have ended."""
        return TextCompletion(**self._envelope.head, choices=await self._choices(), usage=self._answers.usage)

    async def events(self) -> Events:
        """Texts as they come, and the usage last if it is asked for.

        The log-probabilities of a prompt are known at the end alone: a choice that begins with them is one piece.
        """
        async with aclosing(self._whole_pieces() if self._plan.scored else self._pieces()) as pieces:
            async for piece in pieces:
                yield self._envelope.chunk(_KIND, [piece])
        if self._envelope.usage_in_chunks:
            yield self._envelope.chunk(_KIND, [], self._answers.usage)

    async def _pieces(self) -> Events:
        tokens = [self._tokens() for _ in range(self._plan.num_choices)]
        generates = self._plan.requests[0].generates
        for index in range(self._plan.num_choices):
            if self._plan.echo or not generates:
                yield _piece(index, self._echoed(index), None, None if generates else "length")
        async for index, output in self._answers.outputs():
            logprobs = _described(tokens[index], shown_logprobs(output, self._model))
            reason = _finish_reason(output)
            if output.text or reason or logprobs:
                yield _piece(index, output.text, logprobs, reason)

    async def _whole_pieces(self) -> Events:
        for choice in await self._choices():
            yield choice.model_dump()

    async def _choices(self) -> list[CompletionChoice]:
        outputs: list[list[Output]] = [[] for _ in range(self._plan.num_choices)]
        async for index, output in self._answers.outputs():
            outputs[index].append(output)
        firsts = [outputs[index - index % self._plan.n] for index in range(len(outputs))]
        return [self._choice(index, *pair) for index, pair in enumerate(zip(firsts, outputs, strict=True))]

    def _choice(self, index: int, first: Sequence[Output], own: Sequence[Output]) -> CompletionChoice:
        """``first`` is the prompt's first choice, which has the prompt's log-probabilities."""
        answered = [one for output in own for one in shown_logprobs(output, self._model)]
        prompt = self._prompt_scores(index, first) if self._plan.scored else []
        tokens = self._tokens()
        return CompletionChoice(
            index=index,
            text=self._echoed(index) + "".join(output.text for output in own),
            logprobs=tokens.described([*prompt, *((one.token_id, one) for one in answered)]) if tokens else None,
            finish_reason=next(filter(None, map(_finish_reason, own)), "length"),
        )

    def _prompt_scores(self, index: int, first: Sequence[Output]) -> list[tuple[int, TokenLogprob | None]]:
        """The prompt's tokens with theirs; the first one has none."""
        token_ids = self._plan.prompts[index // self._plan.n].token_ids
        described: list[tuple[int, TokenLogprob | None]] = [(token_ids[0], None)]
        if first and (scores := first[-1].prompt_logprobs) is not None:
            tops = first[-1].prompt_top_logprobs or ((),) * len(scores)
            for token_id, score, top in zip(token_ids[1:], scores.tolist(), tops, strict=True):
                described.append((token_id, TokenLogprob(token_id, score, top)))
        return described

    def _echoed(self, index: int) -> str:
        return self._plan.prompts[index // self._plan.n].text if self._plan.echo else ""

    def _tokens(self) -> CompletionTokens | None:
        number = self._plan.num_logprobs
        return None if number is None else CompletionTokens(self._model, number)


def _described(tokens: CompletionTokens | None, logprobs: Sequence[TokenLogprob]) -> CompletionLogprobs | None:
    return tokens.described([(one.token_id, one) for one in logprobs]) if tokens and logprobs else None


def _finish_reason(output: Output) -> CompletionFinish | None:
    if output.finish_reason is None:
        return None
    return "length" if output.finish_reason == "length" else "stop"


def _piece(
    index: int, text: str, logprobs: CompletionLogprobs | None, finish_reason: CompletionFinish | None
) -> Mapping[str, Any]:
    described = None if logprobs is None else logprobs.model_dump()
    return {"index": index, "text": text, "logprobs": described, "finish_reason": finish_reason}
