"""Messages that are typed: several lines, an editor's keys, history and completion."""

from collections.abc import Iterable, Iterator, Sequence

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output

from kvscape.chat.history import HistoryFile

_PROMPT, _GOES_ON = ">>> ", "... "
_TAKES_FILE = ("/save ", "/load ")


def typed_messages(commands: Sequence[str], history: HistoryFile) -> Iterator[str]:
    """Yield messages until Ctrl-D; Ctrl-C gives one up."""
    session: PromptSession[str] = PromptSession(
        _PROMPT,
        multiline=True,
        prompt_continuation=_GOES_ON,
        key_bindings=_keys(),
        completer=CommandCompleter(commands),
        complete_while_typing=False,
        history=_Remembered(history),
        enable_open_in_editor=True,
        output=create_output(always_prefer_tty=True),  # stdout may be a file that answers go to
    )
    while True:
        try:
            message = session.prompt()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        yield message


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        """A backslash at the end of the line asks for another one."""
        buffer = event.current_buffer
        if buffer.document.current_line_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.newline()
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.newline()

    return keys


class CommandCompleter(Completer):
    """Completes a command's name at the beginning of a message, and the files that some take."""

    def __init__(self, commands: Sequence[str]) -> None:
        self._commands = sorted(commands)
        self._files = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        for command in _TAKES_FILE:
            if text.startswith(command):
                yield from self._files.get_completions(Document(text.removeprefix(command)), complete_event)
        if text.startswith("/") and " " not in text:
            yield from (Completion(name, -len(text)) for name in self._commands if name.startswith(text))


class _Remembered(History):
    """The history file as prompt_toolkit asks for it: the newest entry first."""

    def __init__(self, file: HistoryFile) -> None:
        super().__init__()
        self._file = file

    def load_history_strings(self) -> Iterable[str]:
        return reversed(self._file.entries())

    def store_string(self, string: str) -> None:
        self._file.add(string)
