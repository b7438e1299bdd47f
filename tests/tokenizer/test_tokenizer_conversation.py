"""MLC-LLM's conversation templates as Jinja, against its own way of joining the texts."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from kvscape.errors import KvscapeError
from kvscape.tokenizer import ChatTemplate
from kvscape.tokenizer.conversation import NAMED, Conversation

OBJECT: dict[str, Any] = {
    "system_template": "<<{system_message}>>\n",
    "system_message": 'Be "brief" {{ 7 * 7 }} {% raw %} ü 🌍 \\n',
    "roles": {"user": "[U]", "assistant": "[A]", "tool": "[T]"},
    "role_templates": {"user": "-{user_message}-{function_string}", "tool": "t{tool_message}"},
    "seps": ["|", "||\n"],
    "role_content_sep": ": ",
    "role_empty_sep": ":",
}
TALK: list[dict[str, str]] = [
    {"role": "user", "content": "Hi {assistant_message} {{ x }}"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye"},
]
SYSTEM = {"role": "system", "content": "Be kind."}


def joined(given: Mapping[str, Any], messages: Sequence[Mapping[str, str]]) -> str:
    """What MLC-LLM makes of the messages, step by step."""
    system = given["system_message"]
    if messages[0]["role"] == "system":
        system, messages = messages[0]["content"], messages[1:]
    parts = [given["system_template"].replace("{system_message}", system)]
    separators = given["seps"] * 2 if len(given["seps"]) == 1 else given["seps"]
    for number, message in enumerate(messages):
        role = message["role"]
        own = given["role_templates"].get(role, f"{{{role}_message}}").replace("{function_string}", "")
        shown = given.get("add_role_after_system_message", True) or number > 0 or not parts[0]
        parts.append(given["roles"][role] + given["role_content_sep"] if shown else "")
        parts.append(own.replace(f"{{{role}_message}}", message["content"]))
        parts.append(separators[role == "assistant"])
    return "".join([*parts, given["roles"]["assistant"], given["role_empty_sep"]])


def rendered(given: Any, messages: Sequence[Mapping[str, str]]) -> str:
    conversation = Conversation.of(given)
    assert conversation is not None
    return ChatTemplate(conversation.jinja(), "<bos>").render(messages)


@pytest.mark.parametrize("more", [{}, {"add_role_after_system_message": False}, {"seps": ["#"]}])
@pytest.mark.parametrize("talk", [TALK, [SYSTEM, *TALK]])
def test_an_object_joins_texts_as_mlc_does(more: dict[str, Any], talk: list[dict[str, str]]) -> None:
    given = {**OBJECT, **more}
    assert rendered(given, talk) == joined(given, talk)


def test_a_system_part_without_a_message() -> None:
    constant = {**OBJECT, "system_template": "always", "system_message": ""}
    assert rendered(constant, TALK).startswith("always[U]: -Hi")
    assert rendered({**OBJECT, "system_message": ""}, TALK).startswith("[U]: -Hi")


def test_a_prefix_is_the_first_token() -> None:
    assert rendered({**OBJECT, "system_prefix_token_ids": [1]}, TALK).startswith("<bos><<Be")


NAMES = {
    "llama-3": "<bos><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "llama-2": "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] ",
    "chatml": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "mistral_default": "<bos>[INST] Be kind. Hi [/INST]",
    "gemma_instruction": "<bos>Be kind.<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
    "phi-3": "<bos><|system|>\nBe kind.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\n",
    "LM": "<bos>Be kind.Hi",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_stands_for_the_models_own_form(name: str) -> None:
    assert rendered(name, [SYSTEM, {"role": "user", "content": "Hi"}]) == NAMES[name]


@pytest.mark.parametrize("name", NAMED)
def test_no_system_part_unless_it_is_asked_for(name: str) -> None:
    assert "system" not in rendered(name, [{"role": "user", "content": "Hi"}]).lower()


def test_stop_tokens_by_name_and_by_id() -> None:
    known = {"<|eot_id|>": 9}
    assert list(NAMED["llama-3"].stop_ids(known.get)) == [9]
    read = Conversation.of({**OBJECT, "stop_token_ids": [1, 2, "x"]})
    assert read is not None and list(read.stop_ids(known.get)) == [1, 2]


def test_no_conversation_is_none() -> None:
    assert Conversation.of(None) is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("llama3", "conv_template 'llama3' is not known; did you mean 'llama-3'?"),
        (["llama-3"], "is not known"),
        ({**OBJECT, "roles": {"user": "x"}}, "roles: does not give the texts of user and assistant"),
        ({**OBJECT, "roles": None}, "roles: does not give"),
        ({**OBJECT, "seps": []}, "seps: is no list of one or two texts"),
        ({**OBJECT, "role_templates": []}, "role_templates: is no object of texts"),
        ({**OBJECT, "system_message": 7}, "system_message: is no text"),
    ],
)
def test_what_is_wrong_is_one_clear_line(given: Any, says: str) -> None:
    with pytest.raises(KvscapeError, match=re.escape(says)):
        Conversation.of(given)


def test_a_role_that_the_model_has_not() -> None:
    with pytest.raises(KvscapeError, match="there is no role tool"):
        rendered("chatml", [{"role": "tool", "content": "x"}])


@pytest.mark.parametrize(
    "escape",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__init__.__globals__ }}",
        "{% set x = cycler.__init__.__globals__.os %}{{ x.popen('id').read() }}",
        "{{ messages.append(1) }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_a_template_that_tries_to_leave_its_sandbox_is_refused(escape: str) -> None:
    with pytest.raises(KvscapeError, match="the chat template cannot be rendered") as caught:
        ChatTemplate(escape).render(TALK)
    assert "\n" not in str(caught.value)
