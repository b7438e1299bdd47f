"""``kvscape serve`` as its users see it: ``server.py --device cuda:0 --model MODEL`` and whatever else ``serve`` takes.

Starts the server, asks for answers whole, streamed, side by side, drawn, penalised, with log-probabilities and as JSON
of a schema, looks at the metrics, and ends it by SIGTERM amid an answer. Needs Python alone besides the server's own
packages. A line is printed for each; the status is 1 where one is wrong.
"""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from threading import Timer
from typing import Any

PROMPT = "Once upon a time there was a small"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "year": {"enum": [1, 2, 3]}},
    "required": ["city", "year"],
    "additionalProperties": False,
}
GREEDY = {"prompt": PROMPT, "max_tokens": 24, "temperature": 0, "ignore_eos": True}
BATCH = 16


@dataclass(frozen=True)
class Server:
    """A running server; ``model`` is the name that it answers to."""

    process: subprocess.Popen[str]
    port: int
    model: str

    @contextmanager
    def response(self, path: str, body: Mapping[str, Any] | None = None) -> Iterator[HTTPResponse]:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=120)) as connection:
            text = None if body is None else json.dumps({"model": self.model, **body})
            connection.request("GET" if body is None else "POST", path, text, {"Content-Type": "application/json"})
            with connection.getresponse() as response:
                if response.status != 200:
                    raise AssertionError(f"{path}: {response.status} {response.read().decode()[:300]}")
                yield response

    def choice(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        with self.response(f"/v1/{path}", body) as response:
            found: dict[str, Any] = json.load(response)["choices"][0]
            return found

    def complete(self, **fields: Any) -> dict[str, Any]:
        return self.choice("completions", {**GREEDY, **fields})

    def chat(self, text: str, **fields: Any) -> str:
        messages = [{"role": "user", "content": text}]
        found: str = self.choice("chat/completions", {"messages": messages, **fields})["message"]["content"]
        return found

    def stream(self, **fields: Any) -> Iterator[dict[str, Any]]:
        with self.response("/v1/completions", {**GREEDY, "stream": True, **fields}) as response:
            for line in response:
                if line.startswith(b"data: {"):
                    yield json.loads(line[len(b"data: ") :])["choices"][0]


@contextmanager
def started(flags: list[str], patience_s: float = 120.0) -> Iterator[Server]:
    command = [sys.executable, "-m", "kvscape", "serve", "--port", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        impatience = Timer(patience_s, process.kill)
        impatience.start()
        try:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            impatience.cancel()
            found = re.search(r"serving (\S+) at http://127\.0\.0\.1:(\d+)", line)
            if found is None:
                raise AssertionError(f"it does not start: {line}{process.stderr.read()[-500:]}")
            yield Server(process, int(found[2]), found[1])
        finally:
            impatience.cancel()
            process.kill()


def answers(server: Server) -> str:
    first, second = server.complete(), server.complete()
    assert first["text"] and first["text"] == second["text"], (first, second)
    return repr(first["text"])[:60]


def streams(server: Server) -> str:
    start = time.monotonic()
    pieces = [(time.monotonic() - start, choice["text"]) for choice in server.stream()]
    assert "".join(text for _, text in pieces) == server.complete()["text"]
    return (
        f"{len(pieces)} pieces, the first after {pieces[0][0] * 1e3:.0f} ms, the last after {pieces[-1][0] * 1e3:.0f}"
    )


def chats(server: Server) -> str:
    return repr(server.chat("What is 2+2?", max_tokens=16, temperature=0))[:60]


def follows_a_schema(server: Server) -> str:
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
    for temperature in (0, 1):
        fields = {"max_tokens": 60, "temperature": temperature, "response_format": form}
        text = server.chat("A city and a number as JSON.", **fields)
        found = json.loads(text)
        assert found["city"] in ("Paris", "Rome") and found["year"] in (1, 2, 3) and len(found) == 2, text
    return text[:60]


def draws(server: Server) -> str:
    fields = {"temperature": 1.0, "top_p": 0.9, "seed": 7}
    first, second = (server.complete(**fields)["text"] for _ in range(2))
    assert first == second != server.complete(**{**fields, "seed": 8})["text"]
    return repr(first)[:60]


def penalises(server: Server) -> str:
    plain = server.complete()["text"]
    bent = server.complete(frequency_penalty=2.0, presence_penalty=1.0)["text"]
    assert bent and bent != plain
    return repr(bent)[:60]


def tells_logprobs(server: Server) -> str:
    found = server.complete(logprobs=3, max_tokens=4)["logprobs"]
    assert len(found["token_logprobs"]) == 4 and all(value <= 0 for value in found["token_logprobs"])
    tops = [max(top.values()) for top in found["top_logprobs"]]
    assert all(abs(own - top) < 1e-4 for own, top in zip(found["token_logprobs"], tops, strict=True)), found
    return f"{found['token_logprobs']}"[:60]


def serves_many(server: Server) -> str:
    """As many as fit into the batch, each with what it would be given alone."""
    prompts = [f"{PROMPT} {number}" for number in range(BATCH)]
    with ThreadPoolExecutor(BATCH) as pool:
        start = time.monotonic()
        texts = list(pool.map(lambda prompt: server.complete(prompt=prompt, max_tokens=64)["text"], prompts))
        seconds = time.monotonic() - start
    alone = server.complete(prompt=prompts[0], max_tokens=64)["text"]
    assert texts[0] == alone, (texts[0], alone)
    return f"{BATCH} x 64 tokens in {seconds:.2f} s: {BATCH * 64 / seconds:,.0f} tokens/s"


def has_metrics(server: Server) -> str:
    with server.response("/metrics") as response:
        text = response.read().decode()
    assert "kvscape_requests" in text, text[:300]
    return f"{len(text.splitlines())} lines"


def ends(server: Server) -> str:
    """An answer that runs when it is told to stop is given to its end; what is left of the process is nothing."""
    count, texts = 200, []
    for choice in server.stream(max_tokens=count):
        texts.append(choice["text"])
        if len(texts) == 1:
            server.process.send_signal(signal.SIGTERM)
            start = time.monotonic()
    status = server.process.wait(60)
    assert choice["finish_reason"] == "length" and status == 0, (choice, status)
    assert server.process.stderr is not None
    assert "Traceback" not in (said := server.process.stderr.read()), said
    return f"status {status}, {time.monotonic() - start:.1f} s after SIGTERM"


CHECKS: tuple[Callable[[Server], str], ...] = (
    answers,
    streams,
    chats,
    follows_a_schema,
    draws,
    penalises,
    tells_logprobs,
    serves_many,
    has_metrics,
    ends,
)


def run(flags: list[str]) -> int:
    bad, start = 0, time.monotonic()
    with started(flags) as server:
        print(f"it starts: {server.model}, {time.monotonic() - start:.1f} s", flush=True)
        for check in CHECKS:
            start = time.monotonic()
            try:
                said = check(server)
            except Exception as error:  # the others may be right
                bad, said = bad + 1, f"BAD: {type(error).__name__}: {error}"[:400]
            print(f"{check.__name__.replace('_', ' ')}: {said}, {time.monotonic() - start:.1f} s", flush=True)
    print(f"{bad} bad")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
