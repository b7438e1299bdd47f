"""A conversation as a JSON file: ``{"messages": [{"role": ..., "content": ...}, ...]}``, OpenAI's messages."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvscape.chat.session import Turn
from kvscape.errors import ConfigError
from kvscape.files import written_file

_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Conversation:
    """The system prompt, if any, and the turns in their order."""

    system: str | None
    turns: tuple[Turn, ...]


def save_conversation(path: Path, conversation: Conversation) -> None:
    """Write the file, whole or not at all. Raises ConfigError rather than replace what is no conversation."""
    try:
        if path.exists():
            load_conversation(path)
    except ConfigError as error:
        raise ConfigError(f"{path} is not replaced", error.why, "choose another name") from None
    except OSError as error:
        raise ConfigError(f"cannot write {path}", error.strerror or str(error), "choose another name") from None
    with written_file(path) as temporary:
        temporary.write_text(json.dumps({"messages": _messages(conversation)}, indent=1) + "\n", encoding="utf-8")


def load_conversation(path: Path) -> Conversation:
    """Read a file that was saved, or any list of messages in that form. Raises ConfigError."""
    messages = _read(path)
    named = [(message.get("role"), message.get("content")) for message in messages]
    if not all(isinstance(content, str) and _is_unicode(content) for _, content in named):
        raise _wrong(path, "a message has no text, or one that is not Unicode")
    system = str(named.pop(0)[1]) if named and named[0][0] == "system" else None
    roles = [role for role, _ in named]
    if roles != ["user", "assistant"] * (len(named) // 2):
        raise _wrong(path, "its messages are not those of user and assistant in turn")
    texts = [str(content) for _, content in named]
    return Conversation(system, tuple(map(Turn, texts[::2], texts[1::2])))


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        if not path.is_file():
            why = "it is no file" if path.exists() else "there is no such file"
            raise ConfigError(f"cannot read {path}", why, "name one that /save wrote")
        if path.stat().st_size > _MOST_BYTES:
            raise _wrong(path, f"it is larger than {_MOST_BYTES >> 20} MiB")
        said = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}", error.strerror or str(error), "name another file") from None
    except (ValueError, RecursionError):
        raise _wrong(path, "it is not JSON") from None
    messages = said.get("messages") if isinstance(said, dict) else None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise _wrong(path, 'it has no list of "messages"')
    return messages


def _is_unicode(text: str) -> bool:
    """JSON can escape half a character."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _messages(conversation: Conversation) -> Sequence[dict[str, str]]:
    system = [] if conversation.system is None else [{"role": "system", "content": conversation.system}]
    pairs = ((("user", turn.question), ("assistant", turn.answer)) for turn in conversation.turns)
    return [*system, *({"role": role, "content": content} for pair in pairs for role, content in pair)]


def _wrong(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} is no saved conversation", why, "name one that /save wrote")
