"""What ``/metrics`` says, in Prometheus' words; each server has its own."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric

from kvscape.engine.gauges import Gauges
from kvscape.engine.metrics import RequestMetrics

CONTENT_TYPE = CONTENT_TYPE_LATEST

_LATENCIES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class ServeMetrics:
    """Counts requests and observes latencies; what the engine counts itself is read when it is asked for."""

    def __init__(self, gauges: Callable[[], Gauges]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_EngineCollector(gauges))
        self._ttft_s = self._latency("ttft", "Time to the first token.")
        self._itl_s = self._latency("itl", "Time between two tokens of an answer.")
        self._e2e_s = self._latency("e2e", "Time from a request's arrival to the end of its answer.")
        self.prompt_tokens = Counter("kvscape_prompt_tokens", "Tokens of accepted prompts.", registry=self._registry)
        self._requests = Counter(
            "kvscape_requests", "Requests by path and status; 499: the client went away.", ("path", "status"),
            registry=self._registry,
        )  # fmt: skip

    def _latency(self, name: str, what: str) -> Histogram:
        return Histogram(f"kvscape_{name}_seconds", what, buckets=_LATENCIES_S, registry=self._registry)

    def observe_tokens(self, metrics: RequestMetrics, first: int, number: int) -> None:
        """Add the latencies of the tokens of an answer from ``first`` on, though it may never come to its end."""
        times_s = metrics.token_times_s
        for place in range(first, first + number):
            if place == 0:
                self._ttft_s.observe(times_s[0] - metrics.arrival_s)
            else:
                self._itl_s.observe(times_s[place] - times_s[place - 1])

    def observe_end(self, metrics: RequestMetrics) -> None:
        """Add the latency of an answer that has ended."""
        if metrics.e2e_s is not None:
            self._e2e_s.observe(metrics.e2e_s)

    def count_request(self, path: str, status: int) -> None:
        self._requests.labels(path, str(status)).inc()

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


class _EngineCollector:
    """The engine's gauges and counters at the time of asking."""

    def __init__(self, gauges: Callable[[], Gauges]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        now = self._gauges()
        counters, share = now.metrics, now.pages_used / now.pages_total
        yield _gauge("requests_running", "Choices in the batch.", now.running)
        yield _gauge("requests_waiting", "Choices that wait for a place in the batch.", now.waiting)
        yield _gauge("batch_size", "Choices that the newest step computed.", now.batch)
        yield _gauge("kv_pages_used", "Pages of the KV cache that belong to running choices.", now.pages_used)
        yield _gauge("kv_pages", "Pages of the KV cache.", now.pages_total)
        yield _gauge("kv_occupancy_ratio", "Share of the pages that is used.", share)
        yield _gauge("prefix_cache_hit_ratio", "Share of prompt tokens found in the prefix cache.",
                     counters.prefix_cache_hit_rate or 0.0)  # fmt: skip
        yield _counter("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.",
                       counters.prefix_cache_queries)  # fmt: skip
        yield _counter("prefix_cache_hits", "Prompt tokens found there.", counters.prefix_cache_hits)
        yield _counter("steps", "Steps of the engine.", counters.steps)
        yield _counter("generated_tokens", "Tokens of answers.", counters.generated_tokens)
        yield _counter(
            "computed_tokens", "Tokens computed, those of preempted choices again.", counters.computed_tokens
        )
        yield _counter("preemptions", "Choices that gave their pages up.", counters.preemptions)
        yield _counter("drafted_tokens", "Tokens of answers that prompt lookup proposed.", counters.drafted_tokens)
        yield _counter("accepted_tokens", "Of these, the model's own.", counters.accepted_tokens)


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"kvscape_{name}", what, value=value)


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(f"kvscape_{name}", what, value=value)
