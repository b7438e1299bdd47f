import pickle

import pytest

from kvscape import errors
from kvscape.errors import ConfigError, KvscapeError, near_match


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (("it broke",), "it broke"),
        (("it broke", "too old"), "it broke: too old"),
        (("it broke", "too old", "buy another"), "it broke: too old; buy another"),
        (("it broke", "", "buy another"), "it broke; buy another"),
        (("it\nbroke", "too  old\n", "buy\tanother"), "it broke: too old; buy another"),
    ],
)
def test_an_error_is_one_line(parts: tuple[str, ...], line: str) -> None:
    assert str(KvscapeError(*parts)) == line


def test_all_expected_errors_have_one_root() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 8 and all(issubclass(kind, KvscapeError) for kind in kinds)


def test_an_error_crosses_processes() -> None:
    error = pickle.loads(pickle.dumps(ConfigError("what", "why", "do")))
    assert (type(error), str(error), error.why) == (ConfigError, "what: why; do", "why")


def test_a_misspelt_word_is_guessed_and_a_strange_one_gets_the_list() -> None:
    assert near_match("q4f16", ["q4f16_1", "q8f16_1"]) == "did you mean 'q4f16_1'?"
    assert near_match("zebra", ["q8f16_1", "q4f16_1"]) == "choose one of q4f16_1, q8f16_1"
