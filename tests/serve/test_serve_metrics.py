"""What ``/metrics`` says after some requests."""

import httpx
import openai
from prometheus_client.parser import text_string_to_metric_families

from kvscape import LLM
from kvscape.engine.async_engine import AsyncEngine
from kvscape.serve import ServeSettings
from serving import MODEL, borrowing, serving


def samples(url: str) -> dict[str, float]:
    """Every sample by its name and labels."""
    text = httpx.get(f"{url}/metrics").text
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
            httpx.get(url + path)
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


def test_each_server_counts_for_itself(engine: AsyncEngine, tiny_llm: LLM) -> None:
    services = [borrowing(engine, tiny_llm, ServeSettings()) for _ in range(2)]
    services[0].metrics.count_request("/health", 200)
    assert b'path="/health"' in services[0].metrics.text() and b'path="/health"' not in services[1].metrics.text()
