"""What begins with /: each command, and what is told of bad input."""

from pathlib import Path

import pytest
from fake_talker import FakeTalker

from kvscape.chat import ChatSession
from kvscape.chat.commands import Commands
from kvscape.chat.session import Turn
from kvscape.errors import ConfigError, KvscapeError


@pytest.fixture
def session() -> ChatSession:
    return ChatSession(len, max_prompt_tokens=5)


@pytest.fixture
def talker() -> FakeTalker:
    return FakeTalker()


@pytest.fixture
def commands(session: ChatSession, talker: FakeTalker) -> Commands:
    return Commands(session, talker)


def test_help_names_every_command(commands: Commands) -> None:
    said = commands.run("/help")
    assert all(name in said for name in commands.names)
    assert {"/system", "/temperature", "/save", "/load", "/stats", "/help", "/reset", "/exit"} == set(commands.names)


def test_the_system_prompt_is_shown_set_and_taken_away(commands: Commands, session: ChatSession) -> None:
    assert "no system prompt" in commands.run("/system")
    assert commands.run("/system  Be brief,\nbe kind. ") == ""
    assert session.messages("q")[0] == {"role": "system", "content": "Be brief,\nbe kind."}
    assert commands.run("/system") == "Be brief,\nbe kind."
    commands.run("/system -")
    assert len(session.messages("q")) == 1


def test_the_temperature_is_shown_and_set(commands: Commands, talker: FakeTalker) -> None:
    assert commands.run("/temperature") == "0"
    assert commands.run("/temperature 0.7") == ""
    assert (talker.temperature, commands.run("/temperature")) == (0.7, "0.7")


def test_a_conversation_is_saved_and_gone_on_with(commands: Commands, session: ChatSession, tmp_path: Path) -> None:
    session.system = "Be brief."
    for number in range(4):
        session.add(f"q{number}", f"ä{number}")
    session.messages("the context is full")  # the oldest turns are forgotten, and still saved
    file = tmp_path / "talk one.json"
    assert commands.run(f"/save {file}") == f"4 turns saved to {file}"
    commands.run("/system -")
    commands.run("/reset")
    assert commands.run(f"/load {file}") == "4 turns loaded"
    assert session.system == "Be brief."
    assert session.turns == tuple(Turn(f"q{number}", f"ä{number}") for number in range(4))
    assert commands.run(f"/save {file}") == f"4 turns saved to {file}"


def test_a_home_folder_may_be_named(commands: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    commands.run("/save ~/talk.json")
    assert (tmp_path / "talk.json").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/rest", "no command '/rest'; did you mean '/reset'?"),
        ("/", "no command '/'; choose one of /exit, /help"),
        ("/reset all", "'all' is too much: this command takes nothing"),
        ("/stats now", "'now' is too much"),
        ("/temperature hot", "temperature 'hot': it is no number; write /temperature 0.7"),
        ("/temperature -1", "temperature = -1.0: it must be at least 0"),
        ("/temperature nan", "temperature = nan: it must be at least 0"),
        ("/save", "/save needs a file: none is named; write /save talk.json"),
        ("/load", "/load needs a file"),
        ("/load nothing.json", "cannot read nothing.json: there is no such file"),
        ("/load .", "cannot read .: it is no file"),
        ("/load /dev/zero", "cannot read /dev/zero: it is no file"),
        ("/save .", ". is not replaced: it is no file; choose another name"),
        ("/save /dev/null/x", "cannot write /dev/null/x"),
        ("/save ~nobody-here/x", "cannot find ~nobody-here/x"),
        ("/load a\0b", "/load needs a file"),
        ("/save " + "x" * 300, "cannot write xxx"),
    ],
)
def test_bad_input_is_one_clear_line(commands: Commands, line: str, says: str) -> None:
    with pytest.raises(KvscapeError) as caught:
        commands.run(line)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


GOOD = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"[]", 'it has no list of "messages"'),
        (b'{"messages": [1]}', 'it has no list of "messages"'),
        (GOOD.replace('"b"', "[]").encode(), "a message has no text"),
        (GOOD.replace('"b"', '"\\ud800"').encode(), "a message has no text, or one that is not Unicode"),
        (GOOD.replace("assistant", "user").encode(), "its messages are not those of user and assistant in turn"),
        (GOOD.replace("user", "system").encode(), "its messages are not those of user and assistant in turn"),
        (b'{"messages": [{"role": "user", "content": "a"}]}', "its messages are not those of user and assistant"),
    ],
)
def test_a_bad_file_changes_nothing(
    commands: Commands, session: ChatSession, tmp_path: Path, content: bytes, says: str
) -> None:
    file = tmp_path / "talk.json"
    file.write_bytes(content)
    session.add("q", "a")
    with pytest.raises(ConfigError, match=f"is no saved conversation: {says}"):
        commands.run(f"/load {file}")
    assert session.turns == (Turn("q", "a"),)
    with pytest.raises(ConfigError, match=f"is not replaced: {says}"):
        commands.run(f"/save {file}")
    assert file.read_bytes() == content


def test_a_file_in_openais_form_is_a_conversation(commands: Commands, session: ChatSession, tmp_path: Path) -> None:
    (tmp_path / "talk.json").write_text(GOOD)
    assert commands.run(f"/load {tmp_path / 'talk.json'}") == "1 turn loaded"
    assert (session.system, session.turns) == (None, (Turn("a", "b"),))
