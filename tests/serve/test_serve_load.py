"""``kvscape bench --endpoint`` on ``kvscape serve``: the two understand each other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvscape import LLM
from kvscape.bench.load import measure_load
from kvscape.config import BuildConfig, DesignPoint, EndpointConfig, Workload
from kvscape.engine.async_engine import AsyncEngine
from kvscape.errors import EndpointError
from kvscape.results import Record
from kvscape.subjects.endpoint import load_endpoint
from kvscape.subjects.endpoint.scores import load_scores
from serving import assert_all_free


def loaded(url: str, route: str = "chat", **work: Any) -> Record:
    asked = Workload(**{"num_runs": 1, "num_requests": 24, "prompt_tokens": 150, "max_tokens": 6, **work})
    server = EndpointConfig(endpoint=url, endpoint_route=route)
    point = DesignPoint(BuildConfig("tiny"), workload=asked, subject="endpoint", server=server)
    return measure_load(load_endpoint(point), point)


@pytest.mark.parametrize("route", ["chat", "completions"])
def test_clients_get_what_they_ask_for(url: str, engine: AsyncEngine, route: str) -> None:
    record = loaded(url, route, concurrency=4)
    facts = record.environment
    assert (record.errors, facts["requests"], facts["served_model"]) == ({}, 24, "tiny")
    assert (facts["tokens_counted_by"], facts["ignores_eos"], facts["mean_output_tokens"]) == ("usage", True, 6.0)
    assert facts["mean_prompt_tokens"] == pytest.approx(150, rel=0.1)
    assert 0 < record.metrics["ttft_s"] <= record.metrics["e2e_s"]
    assert_all_free(engine)


def test_requests_may_come_over_time(url: str) -> None:
    record = loaded(url, request_rate=100.0)
    assert record.errors == {} and record.metrics["failed_share"] == 0.0


def test_what_the_server_refuses_is_in_its_words(url: str) -> None:
    with pytest.raises(EndpointError, match="no request had an answer") as error:
        loaded(url, prompt_tokens=5000, num_requests=2)
    assert "2 x 400" in str(error.value) and "\n" not in str(error.value)


def test_its_scores_over_http_are_the_engines_own(url: str, long_gguf: Path, reference_llm: LLM) -> None:
    server = EndpointConfig(endpoint=url)
    scores = load_scores(DesignPoint(BuildConfig(str(long_gguf)), subject="endpoint", server=server))
    token_ids = scores.encode("the thing and the other one, here and there")
    np.testing.assert_allclose(scores.score(token_ids), reference_llm.engine.score(token_ids), atol=1e-5)
