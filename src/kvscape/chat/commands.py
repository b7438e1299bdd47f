"""What begins with / and is not said to the model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from kvscape.chat.conversation_file import Conversation, load_conversation, save_conversation
from kvscape.chat.session import ChatSession
from kvscape.chat.talker import Talker
from kvscape.errors import ConfigError, near_match

EXIT = "/exit"
_KEYS = """\
Alt-Enter, or \\ before Enter, begins a new line; Tab completes a command; Up shows what was typed before.
Ctrl-C stops an answer, Ctrl-D ends. A message that begins with / needs a space before it."""


@dataclass(frozen=True)
class Command:
    """One command; ``run`` gets what was typed after its name, and returns what is to be shown."""

    usage: str
    does: str
    run: Callable[[str], str]


class Commands:
    """The commands of one conversation, by name."""

    def __init__(self, session: ChatSession, talker: Talker) -> None:
        self._session, self._talker = session, talker
        self._known: Mapping[str, Command] = MappingProxyType(
            {
                "/help": Command("/help", "show this", _alone(self._help)),
                "/reset": Command("/reset", "forget the conversation", _alone(self._reset)),
                "/system": Command("/system [TEXT]", "show or set the system prompt; - takes it away", self._system),
                "/temperature": Command("/temperature [X]", "show or set the temperature; 0 is greedy", self._heat),
                "/save": Command("/save FILE", "write the conversation to a JSON file", self._save),
                "/load": Command("/load FILE", "go on with a saved conversation", self._load),
                "/stats": Command("/stats", "show the last answer's speed and the memory in use", _alone(talker.stats)),
                EXIT: Command(EXIT, "end, as Ctrl-D does", _alone(str)),
            }
        )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._known)

    def run(self, line: str) -> str:
        """Run a command and return what it says. Raises ConfigError for one that is not known or asks for too much."""
        name, _, rest = line.strip().partition(" ")
        if name not in self._known:
            raise ConfigError(f"no command {name!r}", "", near_match(name, self._known))
        return self._known[name].run(rest.strip())

    def _help(self) -> str:
        width = max(len(command.usage) for command in self._known.values())
        lines = [f"{command.usage.ljust(width)}  {command.does}" for command in self._known.values()]
        return "\n".join([*lines, _KEYS])

    def _reset(self) -> str:
        self._session.reset()
        return ""

    def _system(self, text: str) -> str:
        if not text:
            return self._session.system or "there is no system prompt but the template's own"
        self._session.system = None if text == "-" else text
        return ""

    def _heat(self, text: str) -> str:
        if not text:
            return f"{self._talker.temperature:g}"
        try:
            self._talker.temperature = float(text)
        except ValueError:
            raise ConfigError(f"temperature {text!r}", "it is no number", "write /temperature 0.7") from None
        return ""

    def _save(self, text: str) -> str:
        path = _path("/save", text)
        turns = self._session.all_turns
        save_conversation(path, Conversation(self._session.system, turns))
        return f"{_turns(len(turns))} saved to {path}"

    def _load(self, text: str) -> str:
        conversation = load_conversation(_path("/load", text))
        self._session.system = conversation.system
        self._session.go_on_from(conversation.turns)
        return f"{_turns(len(conversation.turns))} loaded"


def _alone(says: Callable[[], str]) -> Callable[[str], str]:
    def run(text: str) -> str:
        if text:
            raise ConfigError(f"{text!r} is too much", "this command takes nothing", "type it alone")
        return says()

    return run


def _path(command: str, text: str) -> Path:
    if not text or "\0" in text:
        raise ConfigError(f"{command} needs a file", "none is named", f"write {command} talk.json")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"cannot find {text}", str(error), "write the whole path") from None


def _turns(number: int) -> str:
    return "1 turn" if number == 1 else f"{number} turns"
