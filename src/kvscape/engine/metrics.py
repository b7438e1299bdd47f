"""When the tokens of a request came, and what the engine has done so far; times are in seconds."""

from dataclasses import dataclass, field


@dataclass
class RequestMetrics:
    """Time stamps of one request, from one monotonic clock.

    ``cached_tokens`` are those of the prompt that the prefix cache had when it was admitted; None before that.
    """

    arrival_s: float
    token_times_s: list[float] = field(default_factory=list)
    finished_s: float | None = None
    cached_tokens: int | None = None

    @property
    def ttft_s(self) -> float | None:
        """Time to first token."""
        return self.token_times_s[0] - self.arrival_s if self.token_times_s else None

    @property
    def itl_s(self) -> list[float]:
        """Inter-token latencies: one sample between each two neighbouring tokens."""
        return [after - before for before, after in zip(self.token_times_s, self.token_times_s[1:], strict=False)]

    @property
    def e2e_s(self) -> float | None:
        """End-to-end latency."""
        return None if self.finished_s is None else self.finished_s - self.arrival_s

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first: (E2E - TTFT) / (output tokens - 1)."""
        if self.ttft_s is None or self.e2e_s is None or len(self.token_times_s) < 2:
            return None
        return (self.e2e_s - self.ttft_s) / (len(self.token_times_s) - 1)


@dataclass
class EngineMetrics:
    """Counters since the engine began; ``computed_tokens`` counts a recomputed token again.

    ``prefix_cache_queries`` are the tokens of admitted sequences that were looked up in the prefix cache, those of a
    preempted sequence again; ``prefix_cache_hits`` are those that were there and not computed. Of ``drafted_tokens``,
    computed on speculation, ``accepted_tokens`` were the model's own.
    """

    steps: int = 0
    computed_tokens: int = 0
    generated_tokens: int = 0
    preemptions: int = 0
    finished_requests: int = 0
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def prefix_cache_hit_rate(self) -> float | None:
        """Share of the looked-up tokens that were found, 0 to 1."""
        return self.prefix_cache_hits / self.prefix_cache_queries if self.prefix_cache_queries else None

    @property
    def acceptance_rate(self) -> float | None:
        """Share of the drafted tokens that were accepted, 0 to 1."""
        return self.accepted_tokens / self.drafted_tokens if self.drafted_tokens else None
