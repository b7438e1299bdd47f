"""The call formats, and which one a chat template speaks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kvscape.errors import ConfigError, near_match
from kvscape.serve.tools import hermes, llama3, qwen
from kvscape.serve.tools.call import (
    CallDelta,
    ContentDelta,
    NewId,
    ToolCall,
    ToolDelta,
    ToolParse,
    ToolStream,
    new_call_id,
)


@dataclass(frozen=True)
class ToolFormat:
    """How a family of models writes calls.

    ``special_tokens`` are the marks that are control tokens in some vocabularies: the detokenizer must show them.
    """

    name: str
    special_tokens: tuple[str, ...]
    open_stream: Callable[[NewId, str], ToolStream]

    def stream(self, prompt: str = "", new_id: NewId = new_call_id) -> ToolStream:
        """Return a parser for one answer; the end of ``prompt`` says whether it begins within a thought."""
        return self.open_stream(new_id, prompt)

    def parse(self, text: str, prompt: str = "", new_id: NewId = new_call_id) -> ToolParse:
        """Return the content and the calls of a whole answer."""
        stream = self.stream(prompt, new_id)
        return joined([*stream.add(text), *stream.finish()])


def joined(deltas: list[ToolDelta]) -> ToolParse:
    """Return what the deltas of a whole answer say."""
    content = "".join(delta.text for delta in deltas if isinstance(delta, ContentDelta))
    pieces = [delta for delta in deltas if isinstance(delta, CallDelta)]
    calls = [
        ToolCall(first.id, first.name or "", "".join(p.arguments for p in pieces if p.index == first.index))
        for first in pieces
        if first.id is not None
    ]
    return ToolParse(content, tuple(calls))


TOOL_FORMATS: Mapping[str, ToolFormat] = MappingProxyType(
    {
        made.name: made
        for made in (
            ToolFormat("llama3", (llama3.TAG,), lambda new_id, prompt: llama3.Llama3Stream(new_id)),
            ToolFormat("hermes", (hermes.OPEN, hermes.CLOSE), lambda new_id, prompt: hermes.HermesStream(new_id)),
            ToolFormat(
                "qwen",
                (hermes.OPEN, hermes.CLOSE, qwen.THINK, qwen.THOUGHT),
                lambda new_id, prompt: qwen.QwenStream(new_id, qwen.begins_thinking(prompt)),
            ),
        )
    }
)


def find_tool_format(chat_template: str) -> ToolFormat | None:
    """Return the format that a template teaches; None where it teaches none of these."""
    if hermes.OPEN in chat_template:
        return TOOL_FORMATS["qwen" if "<|im_start|>" in chat_template and qwen.THOUGHT in chat_template else "hermes"]
    llama = "<|start_header_id|>" in chat_template and "tools" in chat_template
    return TOOL_FORMATS["llama3"] if llama or llama3.TAG in chat_template else None


def tool_format(name: str) -> ToolFormat:
    """Return the format of ``--tool-format NAME``; raise ConfigError for another name."""
    if name not in TOOL_FORMATS:
        raise ConfigError(f"tool format {name!r} is not known", "", near_match(name, TOOL_FORMATS))
    return TOOL_FORMATS[name]
