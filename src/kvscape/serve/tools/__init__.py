"""Calls of tools in a model's text, for the formats of Llama 3, Qwen and Hermes.

For a chat request with tools:

1. ``found = find_tool_format(llm.chat_template.source)``, or ``tool_format(name)`` of ``--tool-format``; None means
   that the answer's text is all content.
2. ``prompt = llm.chat_prompt(messages, tools)``; messages may carry ``tool_calls``, ``tool_call_id`` and ``name`` in
   OpenAI's form. A template that takes no tools is a KvscapeError.
3. ``Request(..., detokenizer=lambda: Detokenizer(llm.tokenizer, shown=found.special_tokens))``: in some vocabularies
   the marks of a call are control tokens, which have no text by default.
4. Streaming: ``stream = found.stream(prompt)``, one for each choice; ``stream.add(output.text)``, and after the last
   output ``stream.finish()``, return ``ContentDelta`` (never half of a mark) and ``CallDelta``, in OpenAI's order:
   first index, id and name, then text of the arguments. Not streaming: ``found.parse(text, prompt)`` gives content
   and calls.
5. ``finish_reason`` is "tool_calls" where there was a call and the engine's reason is "stop".

A call whose JSON is malformed, or which has no name or no object of arguments, stays content.
"""

from kvscape.serve.tools.call import CallDelta, ContentDelta, ToolCall, ToolDelta, ToolParse, ToolStream
from kvscape.serve.tools.format import TOOL_FORMATS, ToolFormat, find_tool_format, joined, tool_format

__all__ = [
    "TOOL_FORMATS",
    "CallDelta",
    "ContentDelta",
    "ToolCall",
    "ToolDelta",
    "ToolFormat",
    "ToolParse",
    "ToolStream",
    "find_tool_format",
    "joined",
    "tool_format",
]
