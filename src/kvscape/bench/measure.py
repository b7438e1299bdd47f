"""One design point measured: runs to warm up, runs that count, and the record of all of them."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from kvscape.analysis.statistics import median_interval, warm_up_runs
from kvscape.bench.calibrated import stored_device
from kvscape.bench.peak_memory import peak_rss_bytes
from kvscape.bench.predict import predict
from kvscape.bench.probe import measure_rates
from kvscape.bench.repeats import enough
from kvscape.bench.thread_facts import thread_facts
from kvscape.bench.timeline import Timeline
from kvscape.bench.workload import arrival_times_s, make_prompts
from kvscape.config import DesignPoint
from kvscape.errors import CapacityError, ConfigError
from kvscape.results import Record, current_environment
from kvscape.subjects import OnDevice, Serves, Subject, Token

Clock = Callable[[], float]
Samples = dict[str, list[float]]

PER_STREAM = ("ttft_s", "tpot_s", "e2e_s", "itl_s")
PER_RUN = ("prefill_tokens_per_s", "decode_tokens_per_s")


# Of fewer runs an interval says nothing.
_LEAST_FOR_INTERVAL = 3


@dataclass(frozen=True)
class Run:
    """One run of the workload: when tokens came, and how much text they make."""

    timeline: Timeline
    characters: int

    @property
    def duration_s(self) -> float:
        return self.timeline.end_s

    @property
    def chars_per_s(self) -> float:
        return self.characters / self.duration_s

    @property
    def rates(self) -> tuple[float, ...]:
        return tuple(getattr(self.timeline, name) for name in PER_RUN)


def measure(
    subject: Subject, point: DesignPoint, clock: Clock = time.perf_counter, advance: Callable[[], None] | None = None
) -> Record:
    """Measure a loaded point; ``advance`` is called after each run, of which there are ``num_runs`` + 1 or more.

    Raises CapacityError when prompt and answer are longer than the context.
    """
    _check(point)
    runs: list[Run] = []
    while not enough(runs, point.workload):
        runs.append(run_once(subject, point, len(runs), clock))
        if advance is not None:
            advance()
    return _record(subject, point, runs)


def run_once(subject: Subject, point: DesignPoint, number: int, clock: Clock) -> Run:
    """Run the workload once and note when each step's tokens came."""
    prompts = make_prompts(point, subject.ordinary_token_ids, number)
    asked_s = arrival_times_s(point)
    tokens_s: list[list[float]] = [[] for _ in prompts]
    answers: list[list[int]] = [[] for _ in prompts]
    start = clock()
    for tokens in _steps(subject, point, prompts, asked_s):
        now = clock() - start
        for token in tokens:
            tokens_s[token.request].append(now)
            answers[token.request].append(token.token_id)
    timeline = Timeline(point.workload.prompt_tokens, asked_s, tokens_s, point.runs_as_one)
    return Run(timeline, sum(len(subject.decode(answer)) for answer in answers))


def _steps(
    subject: Subject, point: DesignPoint, prompts: Sequence[Sequence[int]], asked_s: Sequence[float]
) -> Iterator[list[Token]]:
    if point.runs_as_one:
        return subject.generate(prompts, point.workload.max_tokens)
    if not isinstance(subject, Serves):
        why = "it runs all requests together"
        raise ConfigError(f"{point.subject} cannot let requests wait", why, "leave num_requests and request_rate out")
    return subject.serve(prompts, point.workload.max_tokens, asked_s)


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


def _samples(runs: Sequence[Run]) -> Samples:
    """Every value by its name, run after run."""
    per_run = {name: [getattr(run.timeline, name) for run in runs] for name in PER_RUN}
    per_stream = {name: [value for run in runs for value in getattr(run.timeline, name)] for name in PER_STREAM}
    return {**per_run, **per_stream, "chars_per_s": [run.chars_per_s for run in runs]}


def _record(subject: Subject, point: DesignPoint, runs: Sequence[Run]) -> Record:
    warm_up = warm_up_runs([run.duration_s for run in runs])
    samples = _samples(runs[warm_up:])
    memory, threads, device = subject.memory, thread_facts(point.threads), point.build.device
    metrics = {
        **asdict(memory),
        "total_bytes": memory.total_bytes,
        "peak_rss_bytes": peak_rss_bytes(),  # before the probe below takes memory of its own
        **_of_device(subject),
        "bits_per_weight": subject.bits_per_weight,
        **summarize(samples),
    }
    predicted, rates = _predicted(subject, point)
    return Record(
        parameters=point.flat(),
        metrics=metrics,
        predicted=predicted,
        samples=samples,
        environment={**current_environment(device).to_json(), **threads, **rates},
        kernels=subject.kernels,
        intervals=intervals(samples, len(runs) - warm_up),
        warm_up_s=[run.duration_s for run in runs[:warm_up]],
    )


def _predicted(subject: Subject, point: DesignPoint) -> tuple[dict[str, float], dict[str, float]]:
    """What this machine's limits let expect, and those limits."""
    device = point.build.device
    rates = measure_rates(subject.memory.weights_bytes, point.threads, device)
    known = stored_device(point.threads, device)
    predicted = predict(subject.model, subject.predicted_memory, subject.bits_per_weight, point, rates, known)
    return predicted, {name: value for name, value in asdict(rates).items() if value}


def _of_device(subject: Subject) -> dict[str, float]:
    """The most memory that was taken of a device that has its own."""
    nbytes = subject.peak_device_bytes if isinstance(subject, OnDevice) else None
    return {} if nbytes is None else {"peak_device_bytes": nbytes}


def summarize(samples: Samples) -> dict[str, float]:
    """Medians; of the times between tokens the 50th and the 99th percentile."""
    medians = {name: float(np.median(values)) for name, values in samples.items() if name != "itl_s"}
    p50, p99 = (float(value) for value in np.percentile(samples["itl_s"], (50, 99)))
    return {**medians, "itl_p50_s": p50, "itl_p99_s": p99}


def intervals(samples: Samples, runs: int, repeats: Sequence[int] = ()) -> dict[str, list[float]]:
    """95 % intervals of the medians; times between tokens have none, and few runs neither.

    ``repeats`` are the runs of each time that the point was measured, where that is more than once.
    """
    if runs < _LEAST_FOR_INTERVAL:
        return {}
    return {
        name: list(median_interval(np.reshape(values, (runs, -1)), repeats=repeats))
        for name, values in samples.items()
        if name != "itl_s"
    }
