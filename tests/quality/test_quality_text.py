import hashlib
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from kvscape.errors import ConfigError
from kvscape.quality import Text, built_in_text, text_from_file


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


def test_a_line_of_json_lines_is_a_document(tmp_path: Path) -> None:
    path = tmp_path / "pages.jsonl"
    path.write_text('{"text": "Grüße", "n": 1}\n\n{"text": "line\\nline"}\n', encoding="utf-8")
    text = text_from_file(path)
    assert (text.name, text.content) == ("pages", "Grüße\n\nline\nline")
    assert text.documents == ("Grüße", "line\nline")
    path.write_text('{"body": "words"}\n', encoding="utf-8")
    assert text_from_file(path, "body").content == "words"


def test_the_same_words_in_other_documents_are_another_text() -> None:
    assert Text("a", "x\n\ny", ("x", "y")).sha256 != Text("a", "x\n\ny", ("x\n\ny",)).sha256
    assert Text("a", "words", ("words",)).sha256 == Text("b", "words").sha256


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', "line 2 of .*pages.jsonl is not JSON"),
        ('{"txt": "a"}', "line 2 of .*pages.jsonl has no field 'text'; did you mean 'txt'"),
        ('["text"]', "line 2 of .*pages.jsonl has no field 'text'; give JSON objects"),
        ('{"text": 1}', "'text' in line 2 of .*pages.jsonl is no string: it is 1"),
        ("[" * 100_000, "line 2 of .*pages.jsonl is not JSON"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "pages.jsonl"
    path.write_text(f'{{"text": "fine"}}\n{line}\n')
    with pytest.raises(ConfigError, match=message):
        text_from_file(path)


def test_json_lines_without_words_are_empty_and_a_plain_text_has_no_fields(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": ""}\n')
    with pytest.raises(ConfigError, match="is empty"):
        text_from_file(tmp_path / "a.jsonl")
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(ConfigError, match="only JSON lines have fields"):
        text_from_file(tmp_path / "a.txt", "text")
