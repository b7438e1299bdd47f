"""What ``/metrics`` says after some requests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kvscape import LLM
from kvscape.engine.async_engine import AsyncEngine
from kvscape.engine.gauges import Gauges
from kvscape.engine.metrics import EngineMetrics, RequestMetrics
from kvscape.engine.request import Output, Request, SamplingParams
from kvscape.serve import ServeSettings
from kvscape.serve.answers import Answers
from kvscape.serve.errors import ApiError
from kvscape.serve.metrics import ServeMetrics
from serving import MODEL, PATIENCE_S, borrowing, held_steps, serving


def samples(url: str) -> dict[str, float]:
    return parsed(httpx.get(f"{url}/metrics", timeout=PATIENCE_S).text)


def parsed(text: str) -> dict[str, float]:
    """Every sample by its name and labels."""
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name + "".join(f",{value}" for value in sample.labels.values()): sample.value for sample in found}


def test_metrics_count_requests_tokens_and_latencies(engine: AsyncEngine, tiny_llm: LLM) -> None:
    with serving(borrowing(engine, tiny_llm, ServeSettings())) as url:
        before = samples(url)
        with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
            asked = {"model": MODEL, "prompt": "the thing", "max_tokens": 4, "n": 2}
            usage = client.completions.create(**asked, extra_body={"ignore_eos": True}).usage  # type: ignore[call-overload]
            list(client.completions.create(**asked, stream=True))  # type: ignore[call-overload]
        for path in ("/v1/completions", "/no/such/path", "/v1/models/nobody"):
            httpx.get(url + path, timeout=PATIENCE_S)
        after = samples(url)
    assert after["kvscape_prompt_tokens_total"] == 2 * usage.prompt_tokens
    assert after["kvscape_generated_tokens_total"] - before["kvscape_generated_tokens_total"] > usage.completion_tokens
    assert after["kvscape_ttft_seconds_count"] == after["kvscape_e2e_seconds_count"] == 4
    assert 6 <= after["kvscape_itl_seconds_count"] <= 12 and after["kvscape_ttft_seconds_sum"] > 0
    assert after["kvscape_requests_total,/v1/completions,200"] == 2
    assert after["kvscape_requests_total,/v1/completions,405"] == 1
    assert after["kvscape_requests_total,other,404"] == 2
    assert (after["kvscape_requests_running"], after["kvscape_kv_pages_used"]) == (0, 0)
    assert after["kvscape_kv_pages"] > 0 and 0 <= after["kvscape_prefix_cache_hit_ratio"] <= 1
    for name in ("requests_waiting", "kv_occupancy_ratio", "preemptions_total", "steps_total", "drafted_tokens_total"):
        assert f"kvscape_{name}" in after
    assert after["kvscape_accepted_tokens_total"] == 0


class Failing:
    """An engine, and an answer of two tokens that ends with an error."""

    def submit(self, request: Request) -> Any:
        return self

    def cancel(self) -> None: ...

    async def __aiter__(self) -> AsyncIterator[Output]:
        metrics = RequestMetrics(1.0)
        for time_s in (3.0, 3.5):
            metrics.token_times_s.append(time_s)
            yield Output("one", (5,), metrics=metrics)
        yield Output("one", finish_reason="error", metrics=metrics)


def test_tokens_of_an_answer_that_fails_have_their_latencies() -> None:
    metrics = ServeMetrics(lambda: Gauges(0, 0, 0, 1, 0, EngineMetrics()))
    answers = Answers(Failing(), [Request("one", (1, 2))], metrics)

    async def read() -> None:
        async for _ in answers.outputs():
            pass

    with pytest.raises(ApiError):
        asyncio.run(read())
    assert answers.usage.completion_tokens == 2
    counted = parsed(metrics.text().decode())
    assert (counted["kvscape_ttft_seconds_sum"], counted["kvscape_ttft_seconds_count"]) == (2.0, 1)
    assert (counted["kvscape_itl_seconds_sum"], counted["kvscape_itl_seconds_count"]) == (0.5, 1)
    assert counted["kvscape_e2e_seconds_count"] == 0


def test_choices_that_wait_are_counted_one_by_one(
    open_tiny: Callable[[], LLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_tiny() as llm:
        go_on = held_steps(llm, monkeypatch)

        async def waiting() -> int:
            engine = AsyncEngine(llm.engine)
            answer = engine.submit(Request("many", (1, 2, 3), SamplingParams(max_tokens=2, n=20)))
            counted = engine.gauges()
            go_on.set()
            assert len([output async for output in answer if output.finish_reason]) == 20
            await engine.stop()
            return counted.running + counted.waiting

        assert asyncio.run(waiting()) == 20


def test_each_server_counts_for_itself(engine: AsyncEngine, tiny_llm: LLM) -> None:
    services = [borrowing(engine, tiny_llm, ServeSettings()) for _ in range(2)]
    services[0].metrics.count_request("/health", 200)
    assert b'path="/health"' in services[0].metrics.text() and b'path="/health"' not in services[1].metrics.text()
