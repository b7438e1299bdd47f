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
import jinja2.meta
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kvscape.errors import KvscapeError
from kvscape.tokenizer.message import CalledTool, Message, Tool

_MAX_REPEATED = 1_000_000


class ChatTemplate:
    """The prompt text of a conversation.

    A template comes with a model's file and is not trusted: it sees only what ``render`` gives it, changes nothing, and
    cannot reach Python's objects. Raises KvscapeError for a template that is wrong, refuses, or tries more.
    """

    def __init__(self, source: str, bos_token: str = "", eos_token: str = "") -> None:
        self.source = source
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the template tells the model of tools."""
        try:
            return "tools" in jinja2.meta.find_undeclared_variables(_environment().parse(self.source))
        except Exception as error:
            raise _failed(error) from None

    def render(
        self, messages: Sequence[Message], add_generation_prompt: bool = True, *, tools: Sequence[Tool] | None = None
    ) -> str:
        """Return the prompt; ``add_generation_prompt`` ends it where the assistant's answer begins.

        The arguments of earlier calls may be JSON text: a template sees the object. Tools that the template would not
        tell the model of are refused.
        """
        if tools and not self.takes_tools:
            raise KvscapeError("this model takes no tools", "its chat template does not name them", "leave them out")
        try:
            return self._template.render(
                messages=[_shown(message) for message in messages],
                tools=list(tools) if tools else None,
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


def _shown(message: Message) -> dict[str, Any]:
    shown: dict[str, Any] = dict(message)
    if shown.get("tool_calls"):
        shown["tool_calls"] = [_call(call) for call in shown["tool_calls"]]
    return shown


def _call(call: CalledTool) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": _arguments(function["arguments"])}}


def _arguments(arguments: str | Mapping[str, Any]) -> Any:
    """Templates write arguments by ``tojson``: a text would become a text within a text."""
    if not isinstance(arguments, str):
        return arguments
    try:
        read = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return read if isinstance(read, dict) else arguments


def with_tool_use(default: str, tool_use: str) -> str:
    """Join a model's two named templates: ``tool_use`` is rendered where there are tools, ``default`` where not."""
    # Jinja drops the last line break of a template; the signs keep its blocks from dropping others.
    first, second = (source.removesuffix("\n") for source in (tool_use, default))
    return f"{{% if tools +%}}{first}{{%+ else +%}}{second}{{%+ endif %}}"


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
