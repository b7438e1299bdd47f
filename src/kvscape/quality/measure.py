"""One perplexity of one build at one KV precision, as a record."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from kvscape.config import DesignPoint, EngineConfig, Workload
from kvscape.hub import cache_dir
from kvscape.plain_text import Text
from kvscape.quality.cut_text import CutText, cut_text
from kvscape.quality.journal import Journal
from kvscape.quality.overlap import Calibrated, overlap
from kvscape.quality.perplexity import Told, scores, summarize
from kvscape.quality.protocols import Settings, Window
from kvscape.quality.standard_error import Vector
from kvscape.results import PerplexityRecord, current_environment
from kvscape.subjects import TextSubject
from kvscape.version import __version__

# A window is scored as one prompt; larger chunks gain no speed.
CHUNK = 512


def quality_point(point: DesignPoint, settings: Settings) -> DesignPoint:
    """Keep of a design point what changes its quality; the engine is just large enough for one window."""
    engine = EngineConfig(
        context_window_size=settings.sequence_tokens,
        prefill_chunk_size=min(CHUNK, settings.sequence_tokens),
        sliding_window_size=point.engine.sliding_window_size,
        attention_sink_size=point.engine.attention_sink_size,
        kv_dtype=point.engine.kv_dtype,
    )
    return replace(point, engine=engine, workload=Workload())


def measure_perplexity(
    subject: TextSubject,
    point: DesignPoint,
    settings: Settings,
    text: Text,
    told: Told | None = None,
    journal: Journal | None = None,
) -> PerplexityRecord:
    """Score ``text`` on a subject that was loaded with ``quality_point(point, settings)``.

    ``told`` hears how far it is. Raises ConfigError when the text does not fill one window.
    """
    cut = cut_text(subject, text, settings)
    nll = scores(subject, cut.windows, told, journal)
    return perplexity_record(subject, point, settings, text, cut, nll)


def perplexity_record(
    subject: TextSubject, point: DesignPoint, settings: Settings, text: Text, cut: CutText, nll: list[Vector]
) -> PerplexityRecord:
    """Record what the windows' negative log-likelihoods come to."""
    result = summarize(nll, cut.windows)
    return PerplexityRecord(
        parameters=quality_point(point, settings).flat(),
        perplexity=result.perplexity,
        standard_error=result.standard_error,
        mean_nll=result.mean_nll,
        tokens_scored=result.tokens_scored,
        protocol=settings.protocol,
        context=settings.context,
        text=text.name,
        text_sha256=text.sha256,
        environment=current_environment(point.build.device).to_json(),
        stride=settings.stride,
        limit=settings.limit,
        text_tokens=cut.text_tokens,
        bits_per_byte=result.bits_per_byte,
        unit="word" if settings.protocol == "word" else "token",
        bits_per_weight=subject.bits_per_weight,
        curve=_curve(nll[0], settings.stride) if settings.protocol == "stream" else [],
        **_calibration(subject, cut.windows),
    )


def _calibration(subject: TextSubject, windows: Sequence[Window]) -> dict[str, Any]:
    """What the weights were calibrated on, and how much of it is scored."""
    if not isinstance(subject, Calibrated) or (found := subject.calibration) is None:
        return {}
    calibration, known = found
    share = overlap((window.token_ids for window in windows), known)
    return {"calibration": asdict(calibration), "calibration_overlap": share}


def _curve(nll: Vector, mark: int) -> list[dict[str, float]]:
    """Perplexity along a stream: of each ``mark`` tokens, and of all so far."""
    ends = np.append(np.arange(mark, len(nll), mark), len(nll))
    sums = np.add.reduceat(nll, ends - np.diff(ends, prepend=0))
    alone = np.exp(sums / np.diff(ends, prepend=0))
    running = np.exp(np.cumsum(sums) / ends)
    columns = zip(ends.tolist(), alone.tolist(), running.tolist(), strict=True)
    return [{"tokens": end, "perplexity": one, "running_perplexity": all_} for end, one, all_ in columns]


@contextmanager
def open_journal(
    subject: TextSubject, point: DesignPoint, settings: Settings, text: Text, restart: bool = False
) -> Iterator[Journal | None]:
    """Keep the scores of exactly this measurement while it runs, with those that an interrupted run of it left.

    There is none for a stream, which cannot go on in its middle: its cache is the result of all before.
    """
    if settings.protocol == "stream":
        yield None
        return
    parameters = quality_point(point, settings).flat()
    for name in ("model", "threads"):  # the build's key stands for the one, the other changes nothing
        del parameters[name]
    own = {
        "build": subject.build_key,
        "kvscape_version": __version__,
        "parameters": parameters,
        "scored": {**asdict(settings), "limit": None, "text": text.sha256},
    }
    key = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:32]
    with Journal(cache_dir() / "ppl" / f"{key}.scores", restart) as journal:
        yield journal
