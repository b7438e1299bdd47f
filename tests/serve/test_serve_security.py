"""Who may ask, from where, and how much."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from kvscape import LLM
from kvscape.engine.async_engine import AsyncEngine
from kvscape.errors import ConfigError
from kvscape.serve import ServeSettings
from kvscape.serve.security import allowed_hosts, has_key, host_name
from serving import MODEL, PATIENCE_S, borrowing, serving

KEY = "schlüssel"
ORIGIN = "https://example.org"
ASKED = {"model": MODEL, "prompt": "x", "max_tokens": 1}


@pytest.fixture(scope="module")
def guarded(engine: AsyncEngine, tiny_llm: LLM) -> Iterator[httpx.Client]:
    """A server with a key, one foreign site, and small limits."""
    settings = ServeSettings(api_key=KEY, cors_origins=(ORIGIN,), max_body_bytes=2000, max_header_bytes=2000)
    with ExitStack() as stack:
        url = stack.enter_context(serving(borrowing(engine, tiny_llm, settings)))
        yield stack.enter_context(httpx.Client(base_url=url, timeout=PATIENCE_S))


def bearer(key: str = KEY) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {key}".encode()}


def test_only_the_key_opens(guarded: httpx.Client) -> None:
    for headers in (
        {},
        bearer("other"),
        bearer(KEY[:-1]),
        {b"authorization": b"Bearer"},
        {b"authorization": KEY.encode()},
    ):
        for answer in (guarded.get("/v1/models", headers=headers), guarded.post("/v1/completions", headers=headers)):
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["error"]["code"] == "invalid_api_key" and KEY not in answer.text
    assert guarded.get("/metrics").status_code == guarded.get("/openapi.json").status_code == 401
    assert guarded.get("/v1/models", headers=bearer()).status_code == 200
    assert guarded.post("/v1/completions", json=ASKED, headers=bearer()).status_code == 200


def test_health_is_for_everybody(guarded: httpx.Client) -> None:
    assert guarded.get("/health").json() == {"status": "ok"}
    assert guarded.get("/").status_code == 200  # the page asks for the key


def test_a_body_that_says_it_is_too_large_is_not_read(guarded: httpx.Client) -> None:
    answer = guarded.post("/v1/completions", json={**ASKED, "prompt": "x" * 3000}, headers=bearer())
    assert answer.status_code == 413 and "2,000 bytes" in answer.json()["error"]["message"]


def test_a_body_in_chunks_is_counted(guarded: httpx.Client) -> None:
    def chunks(size: int) -> Iterator[bytes]:
        yield json.dumps(ASKED)[:-1].encode()
        yield b" " * size
        yield b"}"

    headers = {**bearer(), b"content-type": b"application/json"}
    assert guarded.post("/v1/completions", content=chunks(500), headers=headers).status_code == 200
    answer = guarded.post("/v1/completions", content=chunks(3000), headers=headers)
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "body_too_large"


def test_headers_have_a_limit(guarded: httpx.Client) -> None:
    answer = guarded.get("/v1/models", headers={**bearer(), b"x-long": b"x" * 2000})
    assert answer.status_code == 431 and answer.json()["error"]["code"] == "headers_too_large"
    assert guarded.get(f"/health?{'x' * 3000}").status_code == 431
    assert guarded.get("/health", headers={b"x-long": b"x" * 200_000}).status_code == 400  # by the HTTP parser


def test_another_site_may_call_only_where_it_is_named(guarded: httpx.Client, url: str) -> None:
    asking = {"origin": ORIGIN, "access-control-request-method": "POST",
              "access-control-request-headers": "authorization,x-stainless-os"}  # fmt: skip
    allowed = guarded.options("/v1/completions", headers=asking)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert guarded.get("/v1/models", headers={"origin": ORIGIN}).headers["access-control-allow-origin"] == ORIGIN
    other = guarded.options("/v1/completions", headers={**asking, "origin": "https://evil.example"})
    assert other.status_code == 400 and "access-control-allow-origin" not in other.headers
    without = httpx.options(f"{url}/v1/completions", headers=asking, timeout=PATIENCE_S)
    assert without.status_code == 405 and "access-control-allow-origin" not in without.headers


def test_a_name_that_is_not_the_servers_is_refused(guarded: httpx.Client) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", ""):
        assert guarded.get("/health", headers={"host": host}).status_code == 403
    for host in ("localhost", "LOCALHOST:1234", "127.0.0.1"):
        assert guarded.get("/health", headers={"host": host}).status_code == 200


def test_what_is_no_http_is_turned_away(guarded: httpx.Client) -> None:
    parts = urlsplit(str(guarded.base_url))
    for content in (b"\x00\xff\r\n\r\n", b"GET /\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
        with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
            connection.sendall(content)
            assert connection.recv(1000).startswith(b"HTTP/1.1 400")
    assert guarded.get("/health").status_code == 200


def test_keys_are_compared_as_bytes() -> None:
    key = KEY.encode()
    assert has_key([(b"authorization", b"bearer  " + key)], key) and not has_key([], key)
    assert not has_key([(b"authorization", b"Basic " + key)], key)
    assert not has_key([(b"authorization", b"Bearer \xff\x00")], key)


def test_the_names_of_a_server_are_those_of_loopback() -> None:
    assert host_name([(b"host", b"[::1]:80")]) == "[::1]" and host_name([(b"host", b"a.b:1")]) == "a.b"
    assert allowed_hosts(ServeSettings(host="0.0.0.0")) is None
    hosts = allowed_hosts(ServeSettings(host="::1", allowed_hosts=("My.Proxy",)))
    assert hosts is not None and {"localhost", "[::1]", "my.proxy"} <= set(hosts)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"port": 70000}, "port"), ({"request_timeout_s": 0}, "request_timeout_s"),
        ({"drain_s": float("nan")}, "drain_s"), ({"max_body_bytes": 3}, "max_body_bytes"),
        ({"api_key": " "}, "API key is empty"), ({"api_key": "key\n"}, "spaces or control characters"),
        *(({"cors_origins": (ORIGIN, origin)}, "cors_origin = ") for origin in (
            "", "example.org", "https://", "https://example.org/", "https://Example.org", "https://example.org:x",
            "https://example.org:99999", "https://me@example.org", "https://[::1", "not a site")),
        *(({"allowed_hosts": (name,)}, "allowed_host = ") for name in (
            "", "https://example.org", "example.org:80", "a b")),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ServeSettings(**fields)


def test_sites_and_names_are_taken_as_browsers_say_them() -> None:
    origins = ("https://example.org", "http://localhost:3000", "http://[::1]:80", "*", "null", "app://-")
    ServeSettings(cors_origins=origins, allowed_hosts=("my.proxy", "[::1]", "10.0.0.1", "My_Box"), api_key="schlüssel")
