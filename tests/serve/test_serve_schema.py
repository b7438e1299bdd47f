"""Requests made from the server's own OpenAPI document, right and wrong ones: none is answered by a 500."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance

from kvscape.engine.async_engine import AsyncEngine
from serving import MODEL, assert_all_free

EXAMPLES = 150
"""Of right and of wrong requests each."""

_MOST_TOKENS = 3
_SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def schema(url: str) -> Any:
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        yield made


def test_the_document_names_every_path_and_no_error_of_the_frameworks(schema: Any) -> None:
    paths = {operation.ok().path for operation in schema.get_all_operations()}
    assert paths == {
        "/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/models/{name}", "/health", "/metrics"
    }  # fmt: skip
    assert "HTTPValidationError" not in schema.raw_schema["components"]["schemas"]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_is_answered_by_a_server_error(
    schema: Any, session: requests.Session, url: str, engine: AsyncEngine, mode: GenerationMode
) -> None:
    operations = [found.ok() for found in schema.get_all_operations()]
    asking = [operation.as_strategy(mode) for operation in operations if operation.method == "post"]

    @seed(9)
    @_SETTINGS
    @given(st.one_of(asking))
    def check(case: Case[Any]) -> None:
        shorten(case)
        answer = case.call(base_url=url, session=session)
        assert answer.status_code < 500, answer.text
        if "json" in answer.headers["content-type"][0]:
            case.validate_response(answer, checks=[response_schema_conformance])

    check()
    assert_all_free(engine)


def shorten(case: Case[Any]) -> None:
    """Name the model that is there, and ask it for little."""
    if isinstance(case.body, dict):
        case.body = {name: MODEL if name == "model" else value for name, value in case.body.items()}
        for name in ("max_tokens", "max_completion_tokens"):
            if isinstance(case.body.get(name), int | None):
                case.body["max_tokens"] = _MOST_TOKENS
