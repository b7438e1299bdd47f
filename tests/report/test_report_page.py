"""The page holds everything inside it, and text from records cannot break it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from kvscape.report.page import write_page
from kvscape.report.study_figures import study_figures
from made_records import made_records


class Tags(HTMLParser):
    """Notes tags with their attributes, and the words outside scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.content = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == ("script", {"type": "application/json", "id": "content"}):
            self.content += data
        elif self.tags and self.tags[-1][0] not in ("script", "style"):
            self.words.append(data)


RECORDS = made_records()
FIGURES = study_figures(RECORDS)
RECOMMENDATION: dict[str, Any] = {
    "status": "met",
    "point": RECORDS[0].parameters,
    "metrics": RECORDS[0].metrics,
    "commands": ["kvscape chat --kv-dtype f16"],
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Tags:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(path, "A <study>", RECORDS, FIGURES, RECORDS[:2], RECOMMENDATION)
    return read(path)


def content(page: Tags) -> Any:
    """What the page's script reads."""
    return json.loads(page.content)


def read(path: Path) -> Tags:
    tags = Tags()
    tags.feed(path.read_text(encoding="utf-8"))
    return tags


def test_nothing_is_fetched(page: Tags) -> None:
    links = [attrs.get("src") or attrs.get("href") for _, attrs in page.tags if "src" in attrs or "href" in attrs]
    assert links == ["data:,"]


def test_the_script_gets_every_point(page: Tags) -> None:
    columns = content(page)["study"]["columns"]
    assert columns["id"] == list(range(len(RECORDS)))
    assert sum(columns["front"]) == 2 and columns["recommended"].index(True) == 0
    assert columns["total_bytes"][0] == pytest.approx(RECORDS[0].metrics["total_bytes"] / 2**20, rel=1e-5)
    assert columns["reason"][-1] == "it needs <more> memory"


def test_linked_figures_have_no_rows_of_their_own(page: Tags) -> None:
    linked = [entry["spec"] for entry in content(page)["figures"].values() if entry["linked"]]
    assert len(linked) >= 4
    for spec in linked:
        assert spec["data"] == {"name": "points"}
        assert not any("total_bytes" in row for rows in spec["datasets"].values() for row in rows)


def test_every_figure_has_a_place(page: Tags) -> None:
    places = {attrs["id"] for tag, attrs in page.tags if tag == "figure"}
    assert places == {figure.name for group in FIGURES.values() for figure in group}


def test_text_stays_text(page: Tags) -> None:
    words = " ".join(page.words)
    assert "A <study>" in words and "a <fast> processor" in words


def test_recommendation_and_environment_are_there(page: Tags) -> None:
    words = " ".join(page.words)
    for text in ("Recommended", "kvscape chat --kv-dtype f16", "paged_attention_f16", "8.0 GiB"):
        assert text in words


def test_a_missed_budget_says_why(tmp_path: Path) -> None:
    missed = {**RECOMMENDATION, "status": "not_met", "reason": "perplexity misses by 3 %"}
    write_page(tmp_path / "r.html", "t", RECORDS, FIGURES, (), missed)
    assert "perplexity misses by 3 %" in " ".join(read(tmp_path / "r.html").words)


def test_scripts_end_where_they_should(tmp_path: Path) -> None:
    write_page(tmp_path / "r.html", "t", RECORDS, FIGURES)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert len(re.findall(r"<script[ >]", text)) == len(re.findall(r"</script>", text)) == 3
