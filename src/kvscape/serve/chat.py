"""A chat completion: what the engine answers, whole or as a stream."""

from collections.abc import Mapping
from typing import Any

from kvscape.serve.answers import Answers
from kvscape.serve.chat_choice import GrowingChoice, Grown, WholeChoice, delta_object
from kvscape.serve.chat_plan import ChatPlan
from kvscape.serve.envelope import Envelope
from kvscape.serve.event_stream import Events
from kvscape.serve.protocol.chat import ChatCompletion
from kvscape.serve.served_model import ServedModel

_CHUNK = "chat.completion.chunk"


class Chat:
    """The answers to one plan."""

    def __init__(self, plan: ChatPlan, answers: Answers, envelope: Envelope, model: ServedModel) -> None:
        self._answers, self._envelope = answers, envelope
        self._num_logprobs = plan.request.params.logprobs
        self._choices = [
            GrowingChoice(plan.open_reply(), self._num_logprobs, model) for _ in range(plan.request.params.n)
        ]

    async def whole(self) -> ChatCompletion:
        """All choices, when they have ended."""
        collected = [WholeChoice(index, self._num_logprobs is not None) for index in range(len(self._choices))]
        async for index, output in self._answers.outputs():
            collected[index].add(self._choices[index].add(output))
        choices = [one.choice() for one in collected]
        return ChatCompletion(**self._envelope.head, choices=choices, usage=self._answers.usage)

    async def events(self) -> Events:
        """The role of each choice first, then deltas as they come, and the usage last if it is asked for."""
        for index in range(len(self._choices)):
            yield self._chunk(index, {"role": "assistant", "content": "", "refusal": None})
        async for index, output in self._answers.outputs():
            for event in self._grown(index, self._choices[index].add(output)):
                yield event
        if self._envelope.usage_in_chunks:
            yield self._envelope.chunk(_CHUNK, [], self._answers.usage)

    def _grown(self, index: int, grown: Grown) -> list[dict[str, Any]]:
        objects = [delta_object(delta) for delta in grown.deltas]
        logprobs = grown.logprobs.model_dump() if grown.logprobs and grown.logprobs.content else None
        if logprobs and not objects:  # text that is held back
            objects = [{"content": ""}]
        chunks = [self._chunk(index, one, None if number else logprobs) for number, one in enumerate(objects)]
        return chunks + ([self._chunk(index, {}, None, grown.finish_reason)] if grown.finish_reason else [])

    def _chunk(
        self,
        index: int,
        delta: Mapping[str, Any],
        logprobs: Mapping[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return self._envelope.chunk(_CHUNK, [choice])
