"""Tools and calls in the prompt, by templates with the marks of each family. The expected texts are made by hand."""

from typing import Any

import pytest
from tool_templates import HERMES, LLAMA3

from kvscape.errors import KvscapeError
from kvscape.tokenizer import ChatTemplate, Message, with_tool_use

TOOL = {"type": "function", "function": {"name": "clock", "description": "<now>", "parameters": {"type": "object"}}}
SHOWN = '{"type": "function", "function": {"name": "clock", "description": "<now>", "parameters": {"type": "object"}}}'


def talk(arguments: Any) -> list[Message]:
    return [
        {"role": "user", "content": "When?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "clock", "arguments": arguments}}],
        },
        {"role": "tool", "content": "noon", "tool_call_id": "1", "name": "clock"},
    ]


@pytest.mark.parametrize("arguments", ['{"zone":"é"}', {"zone": "é"}])
def test_hermes(arguments: Any) -> None:
    assert ChatTemplate(HERMES).render(talk(arguments), tools=[TOOL]) == (
        f"<|im_start|>user\nWhen?<tools>{SHOWN}\n</tools><|im_end|>\n<|im_start|>assistant\n<tool_call>\n"
        '{"name": "clock", "arguments": {"zone": "é"}}\n</tool_call><|im_end|>\n<|im_start|>tool\nnoon<|im_end|>\n'
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("arguments", ['{"zone":"é"}', {"zone": "é"}])
def test_llama3(arguments: Any) -> None:
    assert ChatTemplate(LLAMA3, "<b>").render(talk(arguments)[:2], tools=None) == (
        "<b><|start_header_id|>user<|end_header_id|>\n\nWhen?<|eot_id|>"
        '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "clock", "parameters": {"zone": "é"}}<|eot_id|>'
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


@pytest.mark.parametrize("arguments", ["{", "7", "[" * 100_000])
def test_arguments_that_are_no_object_stay_text(arguments: str) -> None:
    source = "{{ messages[1].tool_calls[0].function.arguments | tojson }}"
    assert ChatTemplate(source).render(talk(arguments)) == f'"{arguments}"'


def test_the_callers_messages_stay_as_they_are() -> None:
    messages = talk("{}")
    ChatTemplate(HERMES).render(messages)
    assert messages == talk("{}")


def test_a_template_that_takes_no_tools_refuses_them() -> None:
    template = ChatTemplate("{{ messages[0].content }}{% set tools = 1 %}")
    assert not template.takes_tools and ChatTemplate(HERMES).takes_tools
    assert template.render(talk("{}"), tools=[]) == "When?"
    with pytest.raises(KvscapeError, match="this model takes no tools: its chat template does not name them"):
        template.render(talk("{}"), tools=[TOOL])


def test_a_template_for_tools_is_taken_where_there_are_tools() -> None:
    default, tool_use = (
        "\n {{ messages[0].content }}\n  {%- if true %}\n\n!{% endif %}\n\n",
        "\n {{ tools | length }} \n",
    )
    both = ChatTemplate(with_tool_use(default, tool_use))
    assert both.render(talk("{}")) == ChatTemplate(default).render(talk("{}")) == "\n When?\n!"
    assert both.render(talk("{}"), tools=[TOOL]) == "\n 1 "
