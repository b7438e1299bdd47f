"""A server is asked over HTTP; whatever it does, every request is accounted for."""

import asyncio
from contextlib import suppress
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_openai import TEMPLATE_TOKENS, Behaviour, FakeOpenAI, fake_openai
from kvscape.config import DesignPoint, EndpointConfig, Workload
from kvscape.errors import ConfigError, EndpointError, KvscapeError
from kvscape.subjects import SUBJECTS, find_local, find_subject, is_remote
from kvscape.subjects.endpoint import Answer, check_endpoint, check_local, load_endpoint
from kvscape.subjects.endpoint.http import Server
from kvscape.subjects.endpoint.lengths import Length, lengths, read_lengths
from kvscape.subjects.endpoint.sse import Events
from kvscape.subjects.endpoint.traffic import closed_loop
from kvscape.subjects.endpoint.words import WordCount, make_text

PROBES = 2


def point(fake: FakeOpenAI, server: dict[str, Any] | None = None, **work: Any) -> DesignPoint:
    asked = {"prompt_tokens": 20, "max_tokens": 4, "num_requests": 6, **work}
    return DesignPoint(
        workload=Workload(**asked), subject="endpoint", server=EndpointConfig(endpoint=fake.url, **(server or {}))
    )


def answers(fake: FakeOpenAI, server: dict[str, Any] | None = None, **work: Any) -> list[Answer]:
    return load_endpoint(point(fake, server, **work)).answers(0)


def statuses(found: list[Answer]) -> list[str]:
    return sorted(answer.status for answer in found)


@pytest.mark.parametrize("route", ["chat", "completions"])
@pytest.mark.parametrize("is_chunked", [True, False])
def test_every_token_has_its_time_and_the_server_counts_them(route: str, is_chunked: bool) -> None:
    with fake_openai(Behaviour(is_chunked=is_chunked)) as fake:
        found = answers(fake, {"endpoint_route": route})
    assert statuses(found) == ["ok"] * 6
    for answer in found:
        assert (answer.prompt_tokens, answer.usage_tokens, answer.characters) == (20, 4, 8)
        assert len(answer.pieces_s) == 4 and answer.pieces_s == sorted(answer.pieces_s)
        assert answer.asked_s <= answer.sent_s <= answer.pieces_s[0] <= answer.ended_s


def test_prompts_are_made_to_the_wanted_length_and_never_alike() -> None:
    with fake_openai() as fake:
        answers(fake, prompt_tokens=50)
        answers(fake, prompt_tokens=50, seed=1)
    prompts = [request["messages"][0]["content"] for request in fake.asked]
    made = [prompt for prompt in prompts if len(prompt.split()) == 50 - TEMPLATE_TOKENS]
    assert len(made) == len(set(made)) == 12


def test_what_is_asked_for_is_greedy_and_of_a_fixed_length() -> None:
    with fake_openai() as fake:
        answers(fake)
    request = fake.asked[-1]
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("tiny", 4, 0)
    assert request["stream_options"] == {"include_usage": True} and request["ignore_eos"] is True


def test_a_server_that_knows_no_ignore_eos_is_asked_without() -> None:
    with fake_openai(Behaviour(knows_ignore_eos=False)) as fake:
        subject = load_endpoint(point(fake))
        assert statuses(subject.answers(0)) == ["ok"] * 6
    assert not subject.ignores_eos


def test_without_usage_pieces_of_text_are_counted() -> None:
    with fake_openai(Behaviour(has_usage=False, tokens_in_piece=2)) as fake:
        subject = load_endpoint(point(fake))
        found = subject.answers(0)
    assert not subject.has_usage
    assert {answer.output_tokens for answer in found} == {2}


def hold(number: int) -> str:
    return "hold" if number >= PROBES else "ok"


def test_clients_wait_for_their_answers() -> None:
    with fake_openai(Behaviour(hold, holds=3)) as fake:
        assert len(answers(fake, concurrency=3, num_requests=12)) == 12
    assert fake.most_at_once == 3
    assert fake.connections <= 1 + 1 + 3  # models, probes, and one that each client goes on using


def test_requests_that_come_over_time_wait_for_none() -> None:
    with fake_openai(Behaviour(hold, holds=8)) as fake:
        found = answers(fake, request_rate=200.0, num_requests=8)
    assert fake.most_at_once == 8
    asked = [answer.asked_s for answer in found]
    assert asked == sorted(asked) and asked[0] == 0.0
    assert all(answer.sent_s >= answer.asked_s for answer in found)


def asked_for(took_s: float, end_s: float, *statuses: str) -> list[float]:
    """When one client asked, each of whose answers took so long."""
    now_s, left = 0.0, list(statuses)

    async def ask(due_s: float) -> Answer:
        nonlocal now_s
        now_s += took_s
        return Answer(due_s, 1, status=left.pop(0) if left else "ok")

    found = asyncio.run(closed_loop(repeat(ask), 1, lambda: now_s, end_s))
    return [answer.asked_s for answer in found]


def test_a_duration_ends_the_asking() -> None:
    assert asked_for(took_s=0.03, end_s=0.1) == pytest.approx([0.0, 0.03, 0.06, 0.09])
    with fake_openai() as fake:
        assert answers(fake, concurrency=2, num_requests=None, duration_s=1e-9) == []


def test_a_client_that_was_refused_waits_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("kvscape.subjects.endpoint.traffic.asyncio.sleep", sleep)
    assert len(asked_for(1.0, 4.0, "429", "ok", "connection")) == 4
    assert waits == [0.1, 0.1]


@pytest.mark.parametrize(
    ("tells", "status", "reason"),
    [
        ("500", "500", "broken"),
        ("busy", "429", "too many"),
        ("cut", "cut", "closed the connection"),
        ("error", "error", "the sampler raised"),
        ("malformed", "malformed", "no event of OpenAI's: [1, 2]"),
    ],
)
def test_every_failure_has_its_status(tells: str, status: str, reason: str) -> None:
    def every_third(number: int) -> str:
        return tells if number >= PROBES and number % 3 == 0 else "ok"

    with fake_openai(Behaviour(every_third)) as fake:
        found = answers(fake)
    assert statuses(found) == sorted([status] * 2 + ["ok"] * 4)
    assert all(reason in answer.reason for answer in found if not answer.is_ok)


def test_a_stream_that_ends_without_saying_so_is_cut() -> None:
    tells = lambda number: "cut" if number == PROBES else "ok"  # noqa: E731
    with fake_openai(Behaviour(tells, is_chunked=False)) as fake:
        found = answers(fake, num_requests=2)
    assert statuses(found) == ["cut", "ok"]
    assert [answer.reason for answer in found if not answer.is_ok] == ["the stream ended without [DONE]"]


def test_a_connection_that_the_server_closed_meanwhile_is_made_anew() -> None:
    with fake_openai(Behaviour(hangs_up=True)) as fake:
        assert statuses(answers(fake)) == ["ok"] * 6
    assert fake.connections >= 1 + PROBES + 6


def test_a_refused_request_is_tried_again_as_often_as_asked() -> None:
    def at_first(number: int) -> str:
        return "busy" if PROBES <= number < PROBES + 3 else "ok"

    with fake_openai(Behaviour(at_first)) as fake:
        once = answers(fake, {"endpoint_retries": 5}, num_requests=1)
    with fake_openai(Behaviour(at_first)) as fake:
        never = answers(fake, {"endpoint_retries": 2}, num_requests=1)
    assert (once[0].status, once[0].refused) == ("ok", 3)
    assert (never[0].status, never[0].refused) == ("429", 2)


def test_a_server_that_goes_away_is_no_end_of_the_load() -> None:
    with fake_openai() as fake:
        subject = load_endpoint(point(fake, num_requests=3))
    assert statuses(subject.answers(0)) == ["connection"] * 3


def test_a_key_is_sent_and_never_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_openai(Behaviour(key="secret")) as fake:
        with pytest.raises(EndpointError, match="GET /models gave 401: no such key"):
            load_endpoint(point(fake))
        monkeypatch.setenv("KVSCAPE_API_KEY", "secret")
        assert statuses(answers(fake)) == ["ok"] * 6
        assert "secret" not in str(point(fake).flat())


def test_what_does_not_answer_is_said_in_one_line() -> None:
    with fake_openai() as fake:
        pass
    with pytest.raises(EndpointError, match="the endpoint does not answer") as error:
        load_endpoint(point(fake))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("models", [None, [], "tiny", {"data": "tiny"}, {"data": {"id": 1}}, {"data": [{}]}])
def test_what_is_no_list_of_models_is_said_in_one_line(models: Any) -> None:
    with (
        fake_openai(Behaviour(models=models)) as fake,
        pytest.raises(EndpointError, match="no list of models: it is no OpenAI-compatible server"),
    ):
        load_endpoint(point(fake))


@pytest.mark.parametrize("models", [{}, {"data": None}, {"data": []}])
def test_a_server_without_a_model_is_said_to_have_none(models: Any) -> None:
    with fake_openai(Behaviour(models=models)) as fake, pytest.raises(EndpointError, match="has no model"):
        load_endpoint(point(fake))


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + bytes(range(97, 123)) * 50_000,
    ],
)
def test_what_is_no_http_is_a_failed_connection_which_is_closed(sent: bytes) -> None:
    async def answer() -> None:
        hung_up = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(sent)
            with suppress(ConnectionError):
                await reader.read()
            hung_up.set()
            writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        server = Server(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", {})
        async with listener:
            with pytest.raises(ConnectionError, match=r"no HTTP/1\.1"):
                async with server.answer("GET", "/") as response:
                    await response.body()
            await asyncio.wait_for(hung_up.wait(), 60)

    asyncio.run(answer())


@pytest.mark.parametrize(
    ("server", "work", "says"),
    [
        ({}, {}, "no server is named"),
        ({"endpoint": "127.0.0.1:8000"}, {}, "it is no address"),
        ({"endpoint": "http://"}, {}, "endpoint = http://: it is no address"),
        ({"endpoint": "http://x:99999"}, {}, "it is no address"),
        ({"endpoint": "http://x:y"}, {}, "it is no address"),
        ({"endpoint": "http://[::1"}, {}, "it is no address"),
        ({"endpoint": "http://x/a b"}, {}, "it is no address"),
        ({"endpoint": "http://x/\r\nX: y"}, {}, "it is no address"),
        ({"endpoint": "http://me:secret@x"}, {}, "a user's name in it"),
        ({"endpoint": "http://x?key=y"}, {}, "leave out what begins with ?"),
        ({"endpoint": "http://x"}, {"request_rate": 1.0}, "it has no end"),
        ({"endpoint": "http://x"}, {"request_rate": 1.0, "concurrency": 2}, "leave one of them out"),
        ({"endpoint": "http://x", "endpoint_route": "chats"}, {}, "did you mean 'chat'?"),
        ({"endpoint": "http://x", "endpoint_retries": -1}, {}, "endpoint_retries = -1"),
        ({"endpoint": "http://x"}, {"slo": "ttft=1"}, "did you mean 'ttft_s'?"),
        ({"endpoint": "http://x"}, {"slo": "ttft_s=soon"}, "it is no time in seconds"),
        ({"endpoint": "http://x"}, {"precision": 0.03}, "a server is loaded as long as is asked"),
        ({"endpoint": "http://x"}, {"duration_s": 0}, "duration_s = 0"),
        ({"endpoint": "http://x"}, {"concurrency": 0}, "concurrency = 0"),
    ],
)
def test_mistakes_are_named(server: dict[str, Any], work: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        wrong = DesignPoint(workload=Workload(**work), subject="endpoint", server=EndpointConfig(**server))
        check_endpoint(wrong)
        load_endpoint(wrong)
    assert says in str(error.value)


@pytest.mark.parametrize("subject", ["kvscape", "llamacpp", "transformers"])
@pytest.mark.parametrize("asked", [{"concurrency": 2}, {"lengths": "sharegpt"}, {"slo": "ttft_s=1"}, {"duration_s": 1}])
def test_what_only_a_server_has_is_refused_elsewhere(subject: str, asked: dict[str, Any]) -> None:
    wrong = DesignPoint(workload=Workload(**asked), subject=subject)
    with pytest.raises(ConfigError, match="runs in this process"):
        check_local(wrong)
    with pytest.raises(ConfigError, match="runs in this process"):
        find_subject(subject).check(wrong)


def test_of_a_server_nothing_is_built_or_planned() -> None:
    assert "endpoint" in SUBJECTS and is_remote(DesignPoint(subject="endpoint"))
    with pytest.raises(KvscapeError, match="nothing to build or to score here"):
        find_local("endpoint")


def test_drawn_lengths_have_the_means_of_conversations_and_a_long_tail() -> None:
    drawn = list(islice(lengths(Workload(lengths="sharegpt"), 0), 4000))
    prompts, outputs = np.array([one.prompt_tokens for one in drawn]), np.array([one.output_tokens for one in drawn])
    assert np.mean(prompts) == pytest.approx(150, rel=0.1)  # of 161: what is beyond 1,024 is cut
    assert np.mean(outputs) == pytest.approx(315, rel=0.1)  # of 338
    assert np.median(prompts) == pytest.approx(161 * np.exp(-(1.3**2) / 2), rel=0.1)
    assert (prompts.min(), prompts.max(), outputs.max()) == (4, 1024, 1024)
    assert drawn[:9] == list(islice(lengths(Workload(lengths="sharegpt"), 0), 9))
    assert drawn[:9] != list(islice(lengths(Workload(lengths="sharegpt", seed=1), 0), 9))


def test_a_file_says_the_lengths(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt_tokens,output_tokens\n10,3\n20,4\n")
    (tmp_path / "a.jsonl").write_text(
        '{"prompt_tokens": 10, "output_tokens": 3}\n\n{"prompt_tokens": 20, "output_tokens": 4}\n'
    )
    for name in ("a.csv", "a.jsonl"):
        assert read_lengths(tmp_path / name) == [Length(10, 3), Length(20, 4)]
    work = Workload(lengths=str(tmp_path / "a.csv"))
    assert set(islice(lengths(work, 0), 2)) == {Length(10, 3), Length(20, 4)}


def test_a_conversations_own_question_is_the_prompt(tmp_path: Path) -> None:
    talk = (
        '[{"conversations": [{"from": "human", "value": "What is a page table?"}, {"from": "gpt", "value": "%s"}]}, {}]'
    )
    (tmp_path / "talk.json").write_text(talk % ("a" * 40))
    assert read_lengths(tmp_path / "talk.json") == [Length(5, 10, "What is a page table?")]
    with fake_openai() as fake:
        answers(fake, lengths=str(tmp_path / "talk.json"))
    assert fake.asked[-1]["messages"][0]["content"] == "What is a page table?"
    assert fake.asked[-1]["max_tokens"] == 10


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", "{", "line 1 of"),
        ("a.csv", "prompt_tokens,output\n1,2\n", "line 2 of"),
        ("a.csv", "prompt_tokens,output_tokens\n0,2\n", "each must be 1 to"),
        ("a.csv", "prompt_tokens,output_tokens\n", "it is empty"),
        ("a.json", "[]", "it is empty"),
        ("a.json", '[1, {"conversations": null}, {"conversations": [3, 4]}]', "it is empty"),
        ("a.json", '[{"conversations": [{"from": "human", "value": 5}, {"value": "x"}]}]', "it is empty"),
        ("a.jsonl", '{"prompt_tokens": 99999999999, "output_tokens": 1}', "each must be 1 to 16,777,216"),
    ],
)
def test_a_wrong_file_names_its_line(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError) as error:
        read_lengths(tmp_path / name)
    assert says in str(error.value)


def test_two_prompts_tell_how_a_server_counts() -> None:
    count = WordCount.of((4, 13), (24, 53))
    assert count == WordCount(fixed=5.0, per_word=2.0)
    assert count.words(105) == 50 and count.words(1) == 1
    assert len(make_text(50, (1, 2)).split()) == 50 and make_text(9, (1,)) != make_text(9, (2,))


def test_events_come_in_any_pieces() -> None:
    stream = b"data: one\r\n\r\n: comment\nevent: x\ndata:two\n\ndata: [DONE]\n\n"
    for size in (1, 5, 1000):
        events = Events()
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert [payload for piece in pieces for payload in events.add(piece)] == [b"one", b"two", b"[DONE]"]


def test_a_slow_server_is_timed_out() -> None:
    with fake_openai(Behaviour(hold, holds=99)) as fake:
        subject = load_endpoint(point(fake, num_requests=1))
        subject._client.timeout_s = 0.05
        (answer,) = subject.answers(0)
    assert answer.status == "timeout"


def test_a_key_that_no_header_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVSCAPE_API_KEY", "key\r\nX-Other: header")
    with fake_openai() as fake, pytest.raises(ConfigError, match="control characters"):
        load_endpoint(point(fake))
    assert fake.connections == 0
