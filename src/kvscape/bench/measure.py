"""One design point measured: a warm-up, some runs, and the record of all of it."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from kvscape.bench.peak_memory import peak_rss_bytes
from kvscape.bench.predict import predict
from kvscape.bench.probe import measure_rates
from kvscape.bench.thread_facts import thread_facts
from kvscape.bench.timeline import Timeline
from kvscape.bench.workload import make_prompts
from kvscape.config import DesignPoint
from kvscape.errors import CapacityError
from kvscape.results import Record, current_environment
from kvscape.subjects import Subject

Clock = Callable[[], float]
Samples = dict[str, list[float]]

PER_STREAM = ("ttft_s", "tpot_s", "e2e_s", "itl_s")
PER_RUN = ("prefill_tokens_per_s", "decode_tokens_per_s")


@dataclass(frozen=True)
class Run:
    """One run of the workload: when tokens came, and how much text they make."""

    timeline: Timeline
    characters: int

    @property
    def chars_per_s(self) -> float:
        return self.characters / max(self.timeline.e2e_s)


def measure(
    subject: Subject, point: DesignPoint, clock: Clock = time.perf_counter, advance: Callable[[], None] | None = None
) -> Record:
    """Measure a loaded point; ``advance`` is called after each of its ``num_runs`` + 1 runs.

    Raises CapacityError when prompt and answer are longer than the context.
    """
    _check(point)
    samples: Samples = {name: [] for name in (*PER_RUN, *PER_STREAM, "chars_per_s")}
    for number in range(point.workload.num_runs + 1):
        run = run_once(subject, point, number, clock)
        if number > 0:  # the first run warms up caches, clocks and threads
            _collect(samples, run)
        if advance is not None:
            advance()
    return _record(subject, point, samples)


def run_once(subject: Subject, point: DesignPoint, number: int, clock: Clock) -> Run:
    """Run the workload once and note when each step's tokens came."""
    prompts = make_prompts(point, subject.ordinary_token_ids, number)
    arrivals: list[list[float]] = [[] for _ in prompts]
    answers: list[list[int]] = [[] for _ in prompts]
    start = clock()
    for tokens in subject.generate(prompts, point.workload.max_tokens):
        now = clock() - start
        for token in tokens:
            arrivals[token.request].append(now)
            answers[token.request].append(token.token_id)
    timeline = Timeline(point.workload.prompt_tokens, arrivals)
    return Run(timeline, sum(len(subject.decode(answer)) for answer in answers))


def _check(point: DesignPoint) -> None:
    reason = point_reason(point)
    if reason:
        raise CapacityError("the workload does not fit", reason, "use a larger context or a shorter workload")


def point_reason(point: DesignPoint) -> str:
    """Why a point cannot run, from the point alone; empty when it can."""
    needed = point.workload.prompt_tokens + point.workload.max_tokens
    if needed > point.engine.context_window_size:
        return (
            f"prompt_tokens {point.workload.prompt_tokens} + max_tokens {point.workload.max_tokens} "
            f"exceed context_window_size {point.engine.context_window_size}"
        )
    return ""


def _collect(samples: Samples, run: Run) -> None:
    for name in PER_RUN:
        samples[name].append(getattr(run.timeline, name))
    for name in PER_STREAM:
        samples[name].extend(getattr(run.timeline, name))
    samples["chars_per_s"].append(run.chars_per_s)


def _record(subject: Subject, point: DesignPoint, samples: Samples) -> Record:
    memory, threads = subject.memory, thread_facts(point.threads)
    metrics = {
        **asdict(memory),
        "total_bytes": memory.total_bytes,
        "peak_rss_bytes": peak_rss_bytes(),  # before the probe below takes memory of its own
        "bits_per_weight": subject.bits_per_weight,
        **summarize(samples),
    }
    rates = measure_rates(memory.weights_bytes, point.threads)
    return Record(
        parameters=point.flat(),
        metrics=metrics,
        predicted=predict(subject.model, subject.predicted_memory, subject.bits_per_weight, point, rates),
        samples=samples,
        environment={**current_environment().to_json(), **threads, **asdict(rates)},
        kernels=subject.kernels,
    )


def summarize(samples: Samples) -> dict[str, float]:
    """Medians; of the times between tokens the 50th and the 99th percentile."""
    medians = {name: float(np.median(values)) for name, values in samples.items() if name != "itl_s"}
    p50, p99 = (float(value) for value in np.percentile(samples["itl_s"], (50, 99)))
    return {**medians, "itl_p50_s": p50, "itl_p99_s": p99}
