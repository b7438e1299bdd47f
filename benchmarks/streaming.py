"""Perplexity of a long text through a window, with sinks and without: ``python benchmarks/streaming.py TEXT``.

The text runs through the KV cache once. A mark is the perplexity of 1,000 tokens; memory is bounded by the window.
Writes a plot and, beside it, its numbers as JSON.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import altair as alt
import numpy as np
import psutil

from kvscape import LLM
from kvscape.engine import Engine, Request, SamplingParams
from kvscape.files import written_file
from kvscape.report.figure import figure
from kvscape.results import current_environment

WINDOW, SINKS, SEGMENT, CHUNK = 512, (4, 0), 1000, 256
COLOURS = {4: "#4477aa", 0: "#ee6677"}


@dataclass(frozen=True)
class Curve:
    """Pages are counted between steps; ``rss_bytes`` is the process' after a quarter of the text and at its end."""

    sinks: int
    perplexity: list[float]
    kv_cache_bytes: int
    whole_kv_cache_bytes: int
    pool_pages: int
    most_pages: int
    rss_bytes: tuple[int, int]


def curve(token_ids: list[int], sinks: int) -> Curve:
    with LLM(
        context_window_size=len(token_ids),
        sliding_window_size=WINDOW,
        attention_sink_size=sinks,
        prefill_chunk_size=CHUNK,
    ) as llm:
        nll, held, rss = stream(llm.engine, token_ids)
        segments = [float(np.exp(nll[start : start + SEGMENT].mean())) for start in range(0, len(nll), SEGMENT)]
        pool, memory = llm.engine.cache.allocators[0].num_pages, llm.memory
        whole = len(token_ids) * memory.kv_bytes_per_token
        return Curve(sinks, segments, memory.kv_cache_bytes, whole, pool, max(held), (rss[len(rss) // 4], rss[-1]))


def stream(engine: Engine, token_ids: list[int]) -> tuple[np.ndarray, list[int], list[int]]:
    """Negative log-likelihoods; pages held and resident bytes after each step."""
    engine.add(Request("text", tuple(token_ids), SamplingParams(max_tokens=0), prompt_logprobs=True))
    pool, held, rss = engine.cache.allocators[0], [], []
    while engine.has_work:
        outputs = engine.step()
        held.append(pool.num_pages - pool.num_free)
        rss.append(psutil.Process().memory_info().rss)
    assert outputs[0].prompt_logprobs is not None
    return -outputs[0].prompt_logprobs.astype(np.float64), held, rss


def show(curves: list[Curve]) -> None:
    for one in curves:
        print(
            f"window {WINDOW}, sinks {one.sinks}: KV cache {one.kv_cache_bytes / 2**20:.1f} MiB "
            f"(the whole text: {one.whole_kv_cache_bytes / 2**20:.1f}), {one.pool_pages} pages, {one.most_pages} held "
            f"at most; process {one.rss_bytes[0] / 2**20:.0f} MiB, at the end {one.rss_bytes[1] / 2**20:.0f}"
        )
    print("tokens   " + "".join(f"sinks {one.sinks:<5}" for one in curves))
    for index, row in enumerate(zip(*(one.perplexity for one in curves), strict=True)):
        print(f"{(index + 1) * SEGMENT:>7}  " + "".join(f"{value:<11.1f}" for value in row))


def draw(curves: list[Curve], path: Path) -> None:
    names = {one.sinks: f"{one.sinks} sinks" for one in curves}
    rows = [
        {"position": (index + 1) * SEGMENT, "perplexity": value, "sinks": names[one.sinks]}
        for one in curves
        for index, value in enumerate(one.perplexity)
    ]
    scale = alt.Scale(domain=list(names.values()), range=[COLOURS[sinks] for sinks in names])
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X(
            "position:Q",
            title="Position in the text (tokens)",
            scale=alt.Scale(domainMin=0),
            axis=alt.Axis(format=",.0f"),
        ),
        y=alt.Y(
            "perplexity:Q",
            title="Perplexity of 1,000 tokens (lower is better)",
            scale=alt.Scale(type="log", nice=False),
        ),
        color=alt.Color("sinks:N", title="Attention sinks", scale=scale),
    )
    chart = (base.mark_line(strokeWidth=2) + base.mark_point(filled=True, size=45, opacity=1)).properties(
        width=560, height=280
    )
    subtitle = f"WikiText-2, window of {WINDOW} tokens, KV cache of {curves[0].kv_cache_bytes / 2**20:.1f} MiB"
    figure("streaming", "A long text through a small cache", subtitle, chart).write(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path, help="WikiText-2's raw test file")
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path("docs/streaming.png"))
    arguments = parser.parse_args()
    with LLM() as llm:
        token_ids = llm.tokenizer.encode(arguments.text.read_text(encoding="utf-8"))[: arguments.tokens]
    curves = [curve(token_ids, sinks) for sinks in SINKS]
    show(curves)
    draw(curves, arguments.out)
    record = {"environment": current_environment().to_json(), "curves": [asdict(one) for one in curves]}
    with written_file(arguments.out.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
