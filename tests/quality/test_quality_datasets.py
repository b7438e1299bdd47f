"""Texts of the hub: huggingface_hub runs for real, against a server on this machine."""

import gzip
import json
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import polars as pl
import pytest

from hub_server import HubServer, served
from kvscape.errors import ConfigError, HubError
from kvscape.hub import Progress, silent
from kvscape.quality import TextChoice
from kvscape.quality.datasets import DATASETS, dataset_text

ROWS = ["", " = Title = \n", "", " Some words . \n"]


def parquet(**columns: Sequence[object]) -> bytes:
    buffer = BytesIO()
    pl.DataFrame(columns).write_parquet(buffer)
    return buffer.getvalue()


def json_lines(count: int) -> bytes:
    return gzip.compress("".join(json.dumps({"text": f"page {n}"}) + "\n" for n in range(count)).encode())


def content(name: str) -> bytes:
    if name == "c4-sample":
        return json_lines(1200)
    return parquet(**{DATASETS[name].column: ROWS})


@pytest.fixture
def hub(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one data set, by default WikiText."""
    name = getattr(request, "param", "wikitext2")
    dataset = DATASETS[name]
    files = dict.fromkeys(dataset.files.values(), content(name))
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "cache"))
    with served(HubServer({dataset.revision: files}, dataset.repository, "datasets")) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def text(name: str = "wikitext2", split: str | None = None, protocol: str = "windows", told: Progress = silent) -> str:
    return dataset_text(name, split, protocol, told).content


@pytest.mark.parametrize(
    ("hub", "protocol", "expected"),
    [
        ("wikitext2", "windows", "\n\n = Title = \n\n\n\n\n Some words . \n"),
        ("wikitext2", "stride", "\n\n = Title = \n\n\n\n\n Some words . \n"),
        ("wikitext2", "llamacpp", " \n = Title = \n \n Some words . \n"),
        ("wikitext2", "word", " \n = Title = \n \n Some words . \n"),
        ("wikitext103", "stream", " \n = Title = \n \n Some words . \n"),
        ("ptb", "windows", "  = Title = \n   Some words . \n"),
        ("c4-sample", "windows", " ".join(f"page {number}" for number in range(1100))),
    ],
    indirect=["hub"],
)
def test_rows_are_joined_as_the_protocol_has_them(
    hub: HubServer, protocol: str, expected: str, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["hub"]
    found = dataset_text(name, None, protocol)
    assert (found.name, found.content) == (name, expected)
    assert found.documents == (tuple(expected.replace(" page", "\npage").split("\n")) if name == "c4-sample" else ())


def test_another_split_is_another_text(hub: HubServer) -> None:
    file = DATASETS["wikitext2"].files["validation"]
    hub.commits[DATASETS["wikitext2"].revision][file] = parquet(text=["other words"])
    validation = dataset_text("wikitext2", "validation", "word")
    assert (validation.name, validation.content) == ("wikitext2-validation", "other words")
    assert validation.sha256 != dataset_text("wikitext2", "test", "word").sha256


def test_a_text_in_the_cache_asks_nothing(hub: HubServer) -> None:
    seen: list[str] = []
    first = text(told=lambda what, done, total: seen.append(what))
    assert seen[0].startswith("downloading HF://datasets/Salesforce/wikitext@")
    hub.requests.clear()
    assert text() == first
    assert hub.requests == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (b"PAR1 but no more", "is no parquet file, or damaged"),
        (parquet(text=[1, 2]), "column 'text' of .* is no text: it holds Int64"),
        (parquet(txt=["a"]), "has no column 'text'; did you mean 'txt'"),
        (parquet(text=["", ""]), "wikitext2, test is empty"),
    ],
)
def test_what_is_no_text_is_one_clear_line(hub: HubServer, damage: bytes, message: str) -> None:
    hub.commits[DATASETS["wikitext2"].revision][DATASETS["wikitext2"].files["test"]] = damage
    with pytest.raises(ConfigError, match=message) as caught:
        text()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("hub", ["c4-sample"], indirect=True)
def test_a_damaged_archive_is_one_clear_line(hub: HubServer) -> None:
    (file,) = DATASETS["c4-sample"].files.values()
    hub.commits[DATASETS["c4-sample"].revision][file] = json_lines(1200)[:-2000]
    with pytest.raises(HubError, match="is damaged: EOFError"):
        text("c4-sample")


def test_a_file_that_has_gone_is_one_clear_line(hub: HubServer) -> None:
    hub.commits[DATASETS["wikitext2"].revision] = {"README.md": b"words"}
    with pytest.raises(HubError, match="has no file wikitext-2-raw-v1/test-00000"):
        text()


def test_without_network_and_cache_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(HubError, match="the hub cannot be reached and the cache does not hold it"):
        text()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"dataset": "wikitext-2"}, "unknown dataset 'wikitext-2'; did you mean 'wikitext2'"),
        ({"dataset": "wikitext2", "split": "tset"}, "wikitext2 has no split 'tset'; did you mean 'test'"),
        ({"dataset": "c4-sample", "split": "test"}, "c4-sample has no split 'test'; choose one of validation"),
        ({"dataset": "ptb", "text": Path("x.txt")}, "two texts, x.txt and ptb"),
        ({"split": "test"}, "there is no dataset"),
        ({"text_field": "text"}, "there is no file of text"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused_before_anything_is_downloaded(
    choice: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TextChoice(**choice)  # type: ignore[arg-type]


def test_a_parquet_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    path.write_bytes(parquet(body=["one", None, "two"]))
    found = TextChoice(path, "body").read("windows")
    assert (found.name, found.content, found.documents) == ("own", "one\n\n\n\ntwo", ("one", "", "two"))
    with pytest.raises(ConfigError, match="has no column 'text'; choose one of body"):
        TextChoice(path).read("windows")
    with pytest.raises(ConfigError, match="cannot read"):
        TextChoice(tmp_path / "none.parquet").read("windows")
