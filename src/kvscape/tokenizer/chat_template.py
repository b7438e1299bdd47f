"""A model's own chat template, rendered in a sandbox.

The variables, filters and functions are those that Hugging Face transformers gives a template
(https://huggingface.co/docs/transformers/chat_templating_writing): the prompt is the one the model was trained on.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kvscape.errors import KvscapeError

Message = Mapping[str, str]
"""``role`` (system, user or assistant) and ``content``."""

_MAX_REPEATED = 1_000_000


class ChatTemplate:
    """The prompt text of a conversation.

    A template comes with a model's file and is not trusted: it sees only what ``render`` gives it, changes nothing, and
    cannot reach Python's objects. Raises KvscapeError for a template that is wrong, refuses, or tries more.
    """

    def __init__(self, source: str, bos_token: str = "", eos_token: str = "") -> None:
        self.source = source
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """Return the prompt; ``add_generation_prompt`` ends it where the assistant's answer begins."""
        conversation = [dict(message) for message in messages]
        try:
            return self._template.render(
                messages=conversation,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._tokens,
            )
        except KvscapeError:
            raise
        except Exception as error:  # a template is a program of a stranger: it may raise anything
            raise _failed(error) from None

    @cached_property
    def _template(self) -> jinja2.Template:
        return _environment().from_string(self.source)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, where a short expression cannot ask for gigabytes either."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if not numbers and operator == "*" and _repeated(left, right) > _MAX_REPEATED:
            raise OverflowError(f"a repetition of more than {_MAX_REPEATED:,} items")
        if operator == "**" and not (numbers and abs(left) <= 1000 and abs(right) <= 100):
            raise OverflowError("a power that is too large")
        return super().call_binop(context, operator, left, right)


def _repeated(left: Any, right: Any) -> int:
    items, times = (right, left) if isinstance(left, int) else (left, right)
    return len(items) * int(times)


def _environment() -> ImmutableSandboxedEnvironment:
    # No HTML is written here: escaping would change the prompt.
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, autoescape=False, extensions=[loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML's characters, which changes the prompt."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise KvscapeError("the chat template refuses these messages", message, "change them, or give the prompt as it is")


def _strftime_now(layout: str) -> str:
    return datetime.now().strftime(layout)


def _failed(error: Exception) -> KvscapeError:
    return KvscapeError(
        "the chat template cannot be rendered",
        f"{type(error).__name__}: {error}",
        "give the prompt as it is, without a template",
    )
