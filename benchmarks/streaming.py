"""Perplexity of a long text through a window, with sinks and without: ``python benchmarks/streaming.py TEXT``.

The text runs through the KV cache once. A mark is the perplexity of 1,000 tokens; memory is bounded by the window.
Writes a plot and, beside it, its numbers as JSON lines; ``kvscape plot stream`` draws the same from records.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import psutil

from kvscape import LLM
from kvscape.config import DesignPoint, EngineConfig
from kvscape.files import write_text
from kvscape.quality import Running, Settings, Text, measure_perplexity, quality_point, text_from_file
from kvscape.report.perplexity_stream import perplexity_along_streams
from kvscape.results import PerplexityRecord
from kvscape.subjects.kvscape_subject import KvscapeSubject

WINDOW, SINKS = 512, (4, 0)


def stream(text: Text, settings: Settings, sinks: int) -> PerplexityRecord:
    """The record of a stream; prints its memory: pages and resident bytes are looked at after each step."""
    asked = DesignPoint(engine=EngineConfig(sliding_window_size=WINDOW, attention_sink_size=sinks))
    point = quality_point(asked, settings)
    config = replace(point.engine, prefill_chunk_size=256)
    held, rss = [0], [0]
    with LLM(**vars(config)) as llm:
        pool, memory = llm.engine.cache.allocators[0], llm.memory

        def look(_: Running) -> None:
            held.append(pool.num_pages - pool.num_free)
            rss.append(psutil.Process().memory_info().rss)

        record = measure_perplexity(KvscapeSubject(llm), point, settings, text, look)
    whole = settings.context * memory.kv_bytes_per_token
    print(
        f"window {WINDOW}, sinks {sinks}: KV cache {memory.kv_cache_bytes / 2**20:.1f} MiB "
        f"(the whole text: {whole / 2**20:.1f}), {pool.num_pages} pages, {max(held)} held at most; "
        f"process {rss[len(rss) // 4] / 2**20:.0f} MiB, at the end {rss[-1] / 2**20:.0f}"
    )
    return record


def show(records: list[PerplexityRecord]) -> None:
    print("tokens   " + "".join(f"sinks {record.parameters['attention_sink_size']:<5}" for record in records))
    for marks in zip(*(record.curve for record in records), strict=True):
        print(f"{marks[0]['tokens']:>7}  " + "".join(f"{mark['perplexity']:<11.1f}" for mark in marks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path, help="WikiText-2's raw test file")
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path("docs/streaming.png"))
    arguments = parser.parse_args()
    text, settings = text_from_file(arguments.text), Settings("stream", arguments.tokens)
    records = [stream(text, settings, sinks) for sinks in SINKS]
    show(records)
    perplexity_along_streams(records, "streaming").write(arguments.out)
    lines = (json.dumps(record.to_json()) + "\n" for record in records)
    write_text(arguments.out.with_suffix(".jsonl"), "".join(lines))


if __name__ == "__main__":
    main()
