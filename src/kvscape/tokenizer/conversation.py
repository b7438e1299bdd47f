"""MLC-LLM's ``conv_template`` as a Jinja template, for folders that have none of their own.

A conversation is text around the messages: a system part, then each message as its role, a separator, the content in
the role's template, and an end. Source: MLC-LLM's ``protocol/conversation_protocol.py``.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeGuard

from kvscape.errors import UnsupportedModelError, WeightsError, near_match

_CONTENT = {"user": "{user_message}", "assistant": "{assistant_message}", "tool": "{tool_message}"}
_SYSTEM = "{system_message}"


@dataclass(frozen=True)
class Conversation:
    """The texts of one ``conv_template``. ``stop_tokens`` end an answer, by name or by id."""

    roles: Mapping[str, str]
    seps: tuple[str, ...]
    system_template: str = _SYSTEM
    system_message: str = ""
    role_templates: Mapping[str, str] = field(default_factory=dict)
    role_content_sep: str = ""
    role_empty_sep: str = ""
    add_role_after_system_message: bool = True
    system_prefix_token_ids: tuple[int, ...] = ()
    stop_tokens: tuple[str | int, ...] = ()
    has_bos: bool = False

    @classmethod
    def of(cls, given: Any) -> "Conversation | None":
        """Read a name or an object; None for none. Raises UnsupportedModelError for a name that is not known,
        WeightsError for an object that says nothing of its roles."""
        if given is None or isinstance(given, Mapping):
            return None if given is None else _read(given)
        if not isinstance(given, str) or given not in NAMED:
            raise UnsupportedModelError(f"conv_template {given!a} is not known", "", near_match(str(given), NAMED))
        return NAMED[given]

    def stop_ids(self, token_id: Callable[[str], int | None]) -> Iterable[int]:
        """Return the tokens that end an answer; ``token_id`` finds one by its text."""
        ids = [stop if isinstance(stop, int) else token_id(stop) for stop in self.stop_tokens]
        return [found for found in ids if found is not None]

    def to_json(self, name: str, bos_token_id: int | None, eos_token_ids: Iterable[int]) -> dict[str, Any]:
        """Return the object that MLC-LLM reads, with the tokens of one model."""
        return {
            "name": name,
            "system_template": self.system_template,
            "system_message": self.system_message,
            "system_prefix_token_ids": [bos_token_id] if bos_token_id is not None and self.has_bos else None,
            "add_role_after_system_message": self.add_role_after_system_message,
            "roles": dict(self.roles),
            "role_templates": {**_CONTENT, **self.role_templates},
            "seps": list(self.seps),
            "role_content_sep": self.role_content_sep,
            "role_empty_sep": self.role_empty_sep,
            "stop_str": [],
            "stop_token_ids": list(eos_token_ids),
        }

    def jinja(self) -> str:
        """Return the template; it takes ``messages``, ``add_generation_prompt`` and ``bos_token``."""
        before, _, after = self.system_template.partition(_SYSTEM)
        separators = self.seps * 2 if len(self.seps) == 1 else self.seps
        texts = {
            "roles": dict(self.roles),
            "templates": {**_CONTENT, **self.role_templates},
            "places": _CONTENT,
            "seps": {"assistant": separators[1]},
            "sep": separators[0],
            "between": self.role_content_sep,
            "before": before,
            "after": after,
            "standing": self.system_message,
            "bos": self.has_bos or bool(self.system_prefix_token_ids),
            "constant": _SYSTEM not in self.system_template,
            "role_after_system": self.add_role_after_system_message,
        }
        head = "".join(f"{{%- set {name} = {_literal(value)} -%}}" for name, value in texts.items())
        return head + _BODY + f"{{%- if add_generation_prompt -%}}{{{{- {_literal(self._opening)} -}}}}{{%- endif -%}}"

    @property
    def _opening(self) -> str:
        return self.roles["assistant"] + self.role_empty_sep


# A whole system part comes from a message, else from the template's own text, else there is none.
_BODY = (
    "{%- set asked = messages and messages[0]['role'] == 'system' -%}"
    "{%- set message = messages[0]['content'] if asked else standing -%}"
    "{%- set system = before + ('' if constant else message) + after if (message or constant) else '' -%}"
    "{%- if bos -%}{{- bos_token -}}{%- endif -%}{{- system -}}"
    "{%- for turn in (messages[1:] if asked else messages) -%}"
    "{%- if turn['role'] not in roles -%}{{- raise_exception('there is no role ' + turn['role']) -}}{%- endif -%}"
    "{%- if role_after_system or not system or not loop.first -%}{{- roles[turn['role']] + between -}}{%- endif -%}"
    "{{- templates[turn['role']] | replace(places[turn['role']], turn['content']) -}}"
    "{{- seps[turn['role']] if turn['role'] in seps else sep -}}"
    "{%- endfor -%}"
)


def _literal(value: Any) -> str:
    """JSON is Jinja too, with its strings' escapes; characters beyond ASCII must stay as they are."""
    return json.dumps(value, ensure_ascii=False)


def _read(given: Mapping[str, Any]) -> Conversation:
    roles, seps, templates = given.get("roles"), given.get("seps"), given.get("role_templates", {})
    if not _is_texts(roles) or not {"user", "assistant"} <= set(roles) or not set(roles) <= set(_CONTENT):
        raise _wrong("roles", "does not give the texts of user and assistant")
    if not isinstance(seps, list) or len(seps) not in (1, 2) or not all(isinstance(sep, str) for sep in seps):
        raise _wrong("seps", "is no list of one or two texts")
    if not _is_texts(templates):
        raise _wrong("role_templates", "is no object of texts")
    texts = ("system_template", "system_message", "role_content_sep", "role_empty_sep")
    if odd := [name for name in texts if not isinstance(given.get(name, ""), str)]:
        raise _wrong(odd[0], "is no text")
    return Conversation(
        roles=roles,
        seps=tuple(seps),
        role_templates={role: text.replace("{function_string}", "") for role, text in templates.items()},
        add_role_after_system_message=given.get("add_role_after_system_message") is not False,
        system_prefix_token_ids=tuple(_ids(given.get("system_prefix_token_ids"))),
        stop_tokens=tuple(_ids(given.get("stop_token_ids"))),
        **{name: given[name] for name in texts if name in given},
    )


def _is_texts(value: Any) -> TypeGuard[Mapping[str, str]]:
    return isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values())


def _ids(value: Any) -> Iterable[int]:
    return [token for token in value if type(token) is int and token >= 0] if isinstance(value, list) else []


def _wrong(name: str, why: str) -> WeightsError:
    return WeightsError(f"conv_template: {name}", why, "add a chat_template.jinja to the folder")


def _headers(role: str) -> str:
    return f"<|start_header_id|>{role}"


_LLAMA3 = Conversation(
    roles={"user": _headers("user"), "assistant": _headers("assistant"), "tool": _headers("ipython")},
    seps=("<|eot_id|>",),
    system_template=f"{_headers('system')}<|end_header_id|>\n\n{_SYSTEM}<|eot_id|>",
    role_content_sep="<|end_header_id|>\n\n",
    role_empty_sep="<|end_header_id|>\n\n",
    stop_tokens=("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"),
    has_bos=True,
)
_CHATML = Conversation(
    roles={"user": "<|im_start|>user", "assistant": "<|im_start|>assistant"},
    seps=("<|im_end|>\n",),
    system_template=f"<|im_start|>system\n{_SYSTEM}<|im_end|>\n",
    role_content_sep="\n",
    role_empty_sep="\n",
    stop_tokens=("<|im_end|>", "<|endoftext|>"),
)
_GEMMA = Conversation(
    roles={"user": "<start_of_turn>user", "assistant": "<start_of_turn>model"},
    seps=("<end_of_turn>\n",),
    role_content_sep="\n",
    role_empty_sep="\n",
    stop_tokens=("<end_of_turn>", "<eos>"),
    has_bos=True,
)
NAMED: Mapping[str, Conversation] = MappingProxyType(
    {
        "llama-3": _LLAMA3,
        "llama-3_1": _LLAMA3,
        "llama-2": Conversation(
            roles={"user": "<s>[INST]", "assistant": "[/INST]"},
            seps=(" ", " </s>"),
            system_template=f"<s>[INST] <<SYS>>\n{_SYSTEM}\n<</SYS>>\n\n",
            role_content_sep=" ",
            role_empty_sep=" ",
            add_role_after_system_message=False,
            stop_tokens=("</s>",),
        ),
        "chatml": _CHATML,
        "qwen2": _CHATML,
        "mistral_default": Conversation(
            roles={"user": "[INST]", "assistant": "[/INST]"},
            seps=(" ",),
            system_template=f"[INST] {_SYSTEM} ",
            role_content_sep=" ",
            add_role_after_system_message=False,
            stop_tokens=("</s>",),
            has_bos=True,
        ),
        "gemma_instruction": _GEMMA,
        "gemma3_instruction": _GEMMA,
        "phi-3": Conversation(
            roles={"user": "<|user|>", "assistant": "<|assistant|>"},
            seps=("<|end|>\n",),
            system_template=f"<|system|>\n{_SYSTEM}<|end|>\n",
            role_content_sep="\n",
            role_empty_sep="\n",
            stop_tokens=("<|end|>", "<|endoftext|>", "<|assistant|>"),
            has_bos=True,
        ),
        "LM": Conversation(roles={"user": "", "assistant": ""}, seps=("",), has_bos=True),
    }
)
