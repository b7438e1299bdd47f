from pathlib import Path

import pytest

from kvscape.quality.wikitext import detokenized, is_wikitext, pages, raw

ROWS = [
    "",
    " = First = \n",
    "",
    " One , two . \n",
    "",
    " = = Part = = \n",
    " Words \n",
    "",
    " = Second = \n",
    " More \n",
]
RAW = " \n = First = \n \n One , two . \n \n = = Part = = \n Words \n \n = Second = \n More \n"


def test_rows_of_the_hub_become_the_raw_file() -> None:
    assert raw(ROWS) == RAW


def test_a_page_begins_at_a_title_of_the_first_level() -> None:
    assert pages(RAW) == [
        " = First = \n \n One , two . \n \n = = Part = = \n Words \n ",
        " = Second = \n More \n",
    ]


@pytest.mark.parametrize(
    ("content", "is_it"), [(RAW, True), ("", False), ("= Title =\nwords", False), (" words\n = First = \n", False)]
)
def test_wikitext_is_known_by_its_first_line(content: str, is_it: bool) -> None:
    assert is_wikitext(content) is is_it


@pytest.mark.parametrize(
    ("apart", "written"),
    [
        ("a guest @-@ star of 2 @.@ 5 and 1 @,@ 000", "a guest-star of 2.5 and 1,000"),
        ("one , two ; three : four . five ! six ? seven", "one, two; three: four. five! six? seven"),
        ("( a ) [ b ] { c } \" d \" ' e '", "(a) [b] {c} \"d\" 'e'"),
        ("the boys ' book", "the boys' book"),
        ("a book 's cover", "a book's cover"),
        (" = = Part = = \n Words \n", " == Part ==\nWords\n"),
        ("at 5 ° C , N people", "at 5°C, 1 people"),
    ],
)
def test_marks_stand_where_a_writer_puts_them(apart: str, written: str) -> None:
    assert detokenized(apart) == written


def test_the_test_split_has_the_pages_of_the_data_set_of_documents(wikitext_file: Path) -> None:
    content = wikitext_file.read_bytes().decode()
    assert is_wikitext(content)
    assert len(pages(content)) == 62
    rows = [line + "\n" if line.strip() else "" for line in content.split("\n")[:-1]]
    assert (len(rows), raw(rows)) == (4358, content)
