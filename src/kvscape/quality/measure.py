"""One perplexity of one build at one KV precision, as a record."""

from collections.abc import Callable
from dataclasses import replace

from kvscape.config import DesignPoint, EngineConfig, Workload
from kvscape.quality.perplexity import perplexity
from kvscape.quality.protocols import Settings, cut
from kvscape.quality.text import Text
from kvscape.results import PerplexityRecord, current_environment
from kvscape.subjects import Subject

# A window is scored as one prompt; larger chunks gain no speed.
CHUNK = 512


def quality_point(point: DesignPoint, settings: Settings) -> DesignPoint:
    """Keep of a design point what changes its quality; the engine is just large enough for one window."""
    engine = EngineConfig(
        context_window_size=settings.context,
        prefill_chunk_size=min(CHUNK, settings.context),
        sliding_window_size=point.engine.sliding_window_size,
        attention_sink_size=point.engine.attention_sink_size,
        kv_dtype=point.engine.kv_dtype,
    )
    return replace(point, engine=engine, workload=Workload())


def measure_perplexity(
    subject: Subject,
    point: DesignPoint,
    settings: Settings,
    text: Text,
    started: Callable[[int], Callable[[], None]] | None = None,
) -> PerplexityRecord:
    """Score ``text`` on a subject that was loaded with ``quality_point(point, settings)``.

    ``started(windows)`` returns what is called after each window (a progress bar's advance).
    Raises ConfigError when the text does not fill one window.
    """
    windows = cut(subject.encode(text.content), settings, subject.leading_token_id)
    result = perplexity(subject, windows, started(len(windows)) if started else None)
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
        environment=current_environment().to_json(),
    )
