"""The prompts that a chat template makes. Expected strings: transformers 5.23's ``render_jinja_template``."""

from pathlib import Path
from types import MappingProxyType

import pytest

from kvscape.errors import KvscapeError
from kvscape.tokenizer import ChatTemplate
from kvscape.weights.readers.gguf_header import read_header

USER = [{"role": "user", "content": "Hi <b>&\n"}]
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
]


@pytest.fixture(scope="module")
def smollm(default_gguf: Path) -> ChatTemplate:
    return ChatTemplate(read_header(default_gguf).metadata["tokenizer.chat_template"])


def test_smollm_has_a_system_prompt_of_its_own(smollm: ChatTemplate) -> None:
    conversation = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi <b>&\n<|im_end|>\n"
    )
    assert smollm.render(USER) == conversation + "<|im_start|>assistant\n"
    assert smollm.render(USER, add_generation_prompt=False) == conversation


def test_smollm_takes_another_system_prompt_and_many_turns(smollm: ChatTemplate) -> None:
    assert smollm.render(TURNS) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"
    )


def test_blocks_json_and_loop_controls_are_as_in_transformers() -> None:
    source = (
        "{% for m in messages %}\n  {%- if m.role == 'skip' %}{% continue %}{% endif %}\n    {% if true %}\n"
        "{{ m | tojson }}\n    {% endif %}\n{{ m | tojson(indent=2) }}{{ bos_token }}{% endfor %}"
    )
    messages = [{"role": "skip", "content": "x"}, {"role": "user", "content": "<é>&'"}]
    assert ChatTemplate(source, bos_token="<s>").render(messages) == (
        '{"role": "user", "content": "<é>&\'"}\n{\n  "role": "user",\n  "content": "<é>&\'"\n}<s>'
    )


def test_messages_may_be_any_mapping() -> None:
    message = MappingProxyType({"role": "user", "content": "hi"})
    assert ChatTemplate("{{ messages[0] | tojson }}").render([message]) == '{"role": "user", "content": "hi"}'


def test_special_tokens_and_the_date_can_be_written() -> None:
    template = ChatTemplate("{{ bos_token }}{{ strftime_now('%%') }}{{ eos_token }}", "<s>", "</s>")
    assert template.render(USER) == "<s>%</s>"


def test_a_template_may_refuse_messages() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(KvscapeError, match="the chat template refuses these messages: roles must alternate"):
        template.render(USER)


@pytest.mark.parametrize(
    "source",
    ["{% if %}", "{% nonsense %}", "{{ messages[0].content.nothing.more }}", "{{ 1 / 0 }}", "{{ 'x' | nofilter }}"],
)
def test_a_wrong_template_is_an_error(source: str) -> None:
    with pytest.raises(KvscapeError, match="cannot be rendered"):
        ChatTemplate(source).render(USER)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__init__.__globals__ }}",
        "{{ ''['__class__'].__mro__ }}",
        "{{ (''|attr('__class__')).__mro__ }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'content': 'x'}) }}",
        "{% for i in range(10000000000) %}{% endfor %}",
        "{{ 'x' * 10000000000 }}",
        "{{ 10000000000 * [1] }}",
        "{{ 9 ** 9 ** 9 }}",
    ],
)
def test_a_hostile_template_is_refused(source: str) -> None:
    with pytest.raises(KvscapeError, match="cannot be rendered"):
        ChatTemplate(source).render(USER)


def test_arithmetic_is_allowed() -> None:
    assert ChatTemplate("{{ 3 * 4 + 2 ** 3 }}{{ '-' * 3 }}{{ 2 * [1] }}").render(USER) == "20---[1, 1]"


def test_the_messages_of_the_caller_stay_as_they_are(smollm: ChatTemplate) -> None:
    messages = [dict(message) for message in TURNS]
    smollm.render(messages)
    assert messages == TURNS
