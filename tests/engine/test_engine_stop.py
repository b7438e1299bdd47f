"""Stop strings are found wherever the text was cut, and no part of one is ever shown."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvscape.engine.stop import StopMatcher

WORDS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=3).map(tuple)


def shown(pieces: list[str], stop: tuple[str, ...]) -> tuple[str, bool]:
    matcher = StopMatcher(stop)
    text = "".join(matcher.add(piece) for piece in pieces)
    return text + matcher.finish(), matcher.matched


def reference(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    """Read letter by letter until a stop string is complete."""
    for end in range(1, len(text) + 1):
        complete = [word for word in stop if text[:end].endswith(word)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


@settings(deadline=None)
@given(st.lists(st.text("abc", max_size=5), max_size=8), WORDS)
def test_pieces_make_no_difference(pieces: list[str], stop: tuple[str, ...]) -> None:
    assert shown(pieces, stop) == reference("".join(pieces), stop)


@settings(deadline=None)
@given(st.lists(st.text("abc", max_size=5), max_size=8), WORDS)
def test_what_is_shown_is_never_taken_back(pieces: list[str], stop: tuple[str, ...]) -> None:
    matcher, text = StopMatcher(stop), ""
    final, _ = reference("".join(pieces), stop)
    for piece in pieces:
        text += matcher.add(piece)
        assert final.startswith(text)


def test_only_a_possible_beginning_is_held_back() -> None:
    matcher = StopMatcher(("END", "stop"))
    assert [matcher.add(piece) for piece in ("The E", "N", "d st", "ill E")] == ["The ", "", "ENd ", "still "]
    assert matcher.finish() == "E"


@pytest.mark.parametrize("stop", [(), ("END",)])
def test_text_without_a_stop_passes(stop: tuple[str, ...]) -> None:
    assert shown(["one ", "two"], stop) == ("one two", False)


def test_nothing_follows_a_match() -> None:
    matcher = StopMatcher(("END",))
    assert matcher.add("text END more") == "text "
    assert (matcher.add("more"), matcher.finish()) == ("", "")
