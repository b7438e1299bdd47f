"""``kvscape serve`` as a process: its line, its signals, its mistakes."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import IO, Any

import httpx
import pytest

from commands import SHARED_CORES
from kvscape import LLM
from kvscape.cli.main import run
from kvscape.cli.serve import bounded, warn
from kvscape.serve import ServeSettings

LONG = {"model": "tiny", "prompt": "the thing", "ignore_eos": True, "temperature": 0, "max_tokens": 2000}
Serve = Callable[..., Any]
PATIENCE_S = 120  # of a test that would fail


@pytest.fixture
def serve(kvscape_home: Path, long_gguf: Path, tiny_llm: LLM) -> Serve:
    """``with serve(*flags) as (process, url)``; the model is compiled by then, so that nothing is said of that."""

    @contextmanager
    def started(*flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TVM_")}
        command = [sys.executable, "-m", "kvscape", "serve", str(long_gguf), "--port", "0", *flags]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, **SHARED_CORES, "KVSCAPE_HOME": str(kvscape_home), "KVSCAPE_API_KEY": "from-outside"},
        )
        with process:
            try:
                yield process, url_of(process)
            finally:
                process.kill()

    return started


def url_of(process: subprocess.Popen[str]) -> str:
    line = stream(process.stdout).readline()
    found = re.fullmatch(r"serving (\S+) at (http://127\.0\.0\.1:\d+)\n", line)
    assert found and found[1] == "tiny", (line, stream(process.stderr).read())
    return found[2]


def stream(given: IO[str] | None) -> IO[str]:
    assert given is not None
    return given


def client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"authorization": "Bearer from-outside"}, timeout=PATIENCE_S)


class Reader(Thread):
    """Reads a stream, to its end or until it is cut."""

    def __init__(self, url: str, **fields: Any) -> None:
        super().__init__()
        self._url, self._fields = url, fields
        self._pieces: list[str] = []
        self.start()

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def run(self) -> None:
        asked = {**LONG, "stream": True, **self._fields}
        with (
            suppress(httpx.TransportError),
            client(self._url) as http,
            http.stream("POST", "/v1/completions", json=asked) as answer,
        ):
            self._pieces.extend(answer.iter_text())

    def wait_until_begun(self) -> None:
        while not self._pieces:
            self.join(0.005)
            assert self.is_alive() or self._pieces


def test_a_signal_lets_running_answers_end(serve: Serve) -> None:
    with serve("--max-batch-size", "4") as (process, url):
        with client(url) as http:
            without_key = httpx.get(f"{url}/v1/models", timeout=PATIENCE_S)
            assert without_key.status_code == 401  # the key came from the environment
            assert http.get("/v1/models").json()["data"][0]["max_model_len"] == 2048
        readers = [Reader(url, max_tokens=100) for _ in range(3)]
        for reader in readers:
            reader.wait_until_begun()
        process.send_signal(signal.SIGTERM)
        for reader in readers:
            reader.join(PATIENCE_S)
            assert reader.text.endswith("data: [DONE]\n\n")
        assert process.wait(PATIENCE_S) == 0
        assert all(line.startswith("compile for ") for line in stream(process.stderr))
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health", timeout=PATIENCE_S)


def test_what_does_not_end_in_time_is_cancelled(serve: Serve) -> None:
    with serve("--drain-s", "0") as (process, url):
        reader = Reader(url, n=128)
        reader.wait_until_begun()
        process.send_signal(signal.SIGINT)
        reader.join(PATIENCE_S)
        assert '"code": "stopping"' in reader.text and "[DONE]" not in reader.text
        assert process.wait(PATIENCE_S) == 0


def test_a_second_signal_ends_at_once(serve: Serve) -> None:
    with serve("--drain-s", "60") as (process, url):
        reader = Reader(url, n=128)
        reader.wait_until_begun()
        process.send_signal(signal.SIGTERM)
        with client(url) as http, pytest.raises(httpx.TransportError):
            while True:  # the first signal has been heard once nobody is taken any more
                http.get("/health")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM
        reader.join(PATIENCE_S)
        assert "[DONE]" not in reader.text


def test_mistakes_are_one_line(long_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for flags, said in (
            (("--port", port), f"cannot listen at port {port}: address already in use; give another --port"),
            (("--host", "no.such.host.invalid"), "cannot listen at no.such.host.invalid"),
            (("--port", "0", "--host", "192.0.2.1"), "cannot listen at 192.0.2.1: cannot assign requested address"),
            (("--port", "0", "--served-model-name", ""), "the served model's name is empty"),
            (("--port", "0", "--max-body-bytes", "1"), "max_body_bytes = 1"),
            (("--port", "0", "--api-key", ""), "the API key is empty"),
            (("--port", "0", "--kv-dtype", "f17"), "f17"),
        ):
            assert run(["serve", str(long_gguf), *flags]) == 2
            out, line = capsys.readouterr()
            assert (out, line.count("\n")) == ("", 1) and said in line


def test_without_its_packages_it_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kvscape.cli.serve.find_spec", lambda name: None if name == "uvicorn" else name)
    assert run(["serve", "no-such-model"]) == 2
    assert capsys.readouterr().err == (
        "error: the server's packages are missing: uvicorn; pip install 'kvscape[serve]'\n"
    )


def test_the_world_is_let_in_with_a_warning_unless_it_needs_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    for settings in (ServeSettings(), ServeSettings(host="0.0.0.0", api_key="k"), ServeSettings(host="::1")):
        warn(settings)
    assert capsys.readouterr().err == ""
    warn(ServeSettings(host="0.0.0.0"))
    assert "give --api-key" in capsys.readouterr().err


def test_the_batch_is_for_many_and_the_cache_fits_into_the_memory(
    long_gguf: Path, kvscape_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVSCAPE_HOME", str(kvscape_home))
    flags = {"model": str(long_gguf), "jit": "on", "model_lib": None, "overrides": ""}
    roomy = bounded(flags)
    assert (roomy["max_batch_size"], roomy["mixed_chunk_size"], roomy["max_total_sequence_length"]) == (16, 64, None)
    monkeypatch.setattr("kvscape.analysis.free_memory.available_memory_bytes", lambda device: 20 * 2**20)
    tight = bounded(flags)["max_total_sequence_length"]
    assert 2048 <= tight < 16 * 2048
    asked = {**flags, "overrides": "max_batch_size=2;max_total_sequence_length=64", "mixed_chunk_size": 0}
    assert bounded(asked) == asked
