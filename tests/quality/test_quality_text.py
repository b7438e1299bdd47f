import hashlib
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from kvscape.errors import ConfigError
from kvscape.quality import built_in_text, text_from_file


def test_every_topic_is_in_exactly_one_half() -> None:
    evaluation, calibration = built_in_text("evaluation").content, built_in_text("calibration").content
    for document in topics.values():
        assert (document in evaluation) != (document in calibration)


def test_the_halves_are_of_similar_size() -> None:
    sizes = sorted(len(built_in_text(half).content) for half in ("evaluation", "calibration"))
    assert sizes[0] > 0.35 * sum(sizes)


def test_a_text_is_known_by_the_hash_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "poem.txt"
    path.write_bytes("Grüße\r\n".encode())
    text = text_from_file(path)
    assert (text.name, text.content) == ("poem", "Grüße\r\n")
    assert text.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("content", "message"), [(b" \n", "is empty"), (b"ab\xff", "byte 2 is not UTF-8"), (None, "cannot read")]
)
def test_what_is_no_text_is_one_clear_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        text_from_file(path)


def test_an_unknown_half_names_the_near_match() -> None:
    with pytest.raises(ConfigError, match="'evaluation'"):
        built_in_text("evaluatoin")
