"""A server is asked over HTTP; whatever it does, every request is accounted for."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_openai import TEMPLATE_TOKENS, Behaviour, FakeOpenAI, fake_openai
from kvscape.config import DesignPoint, EndpointConfig, Workload
from kvscape.errors import ConfigError, EndpointError, KvscapeError
from kvscape.subjects import SUBJECTS, find_local, find_subject, is_remote
from kvscape.subjects.endpoint import Answer, check_endpoint, check_local, load_endpoint
from kvscape.subjects.endpoint.lengths import Length, lengths, read_lengths
from kvscape.subjects.endpoint.sse import Events
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


def test_clients_wait_for_their_answers() -> None:
    with fake_openai(Behaviour(token_s=0.001)) as fake:
        assert len(answers(fake, concurrency=3, num_requests=12)) == 12
    assert fake.most_at_once == 3
    assert fake.connections <= 1 + 1 + 3  # models, probes, and one that each client goes on using


def test_requests_that_come_over_time_wait_for_none() -> None:
    with fake_openai(Behaviour(token_s=0.03)) as fake:
        found = answers(fake, request_rate=200.0, num_requests=8)
    assert fake.most_at_once > 3
    asked = [answer.asked_s for answer in found]
    assert asked == sorted(asked) and asked[0] == 0.0
    assert all(answer.sent_s >= answer.asked_s for answer in found)


def test_a_duration_ends_the_asking() -> None:
    with fake_openai(Behaviour(token_s=0.005)) as fake:
        found = answers(fake, concurrency=2, num_requests=None, duration_s=0.1)
    assert 4 <= len(found) < 30
    assert max(answer.sent_s for answer in found) < 0.1


@pytest.mark.parametrize(
    ("tells", "status", "reason"),
    [
        ("500", "500", "broken"),
        ("busy", "429", "too many"),
        ("cut", "cut", "closed the connection"),
        ("error", "error", "the sampler raised"),
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


@pytest.mark.parametrize(
    ("server", "work", "says"),
    [
        ({}, {}, "no server is named"),
        ({"endpoint": "127.0.0.1:8000"}, {}, "it is no address"),
        ({"endpoint": "http://x"}, {"request_rate": 1.0}, "it has no end"),
        ({"endpoint": "http://x"}, {"request_rate": 1.0, "concurrency": 2}, "leave one of them out"),
        ({"endpoint": "http://x", "endpoint_route": "chats"}, {}, "did you mean 'chat'?"),
        ({"endpoint": "http://x", "endpoint_retries": -1}, {}, "endpoint_retries = -1"),
        ({"endpoint": "http://x"}, {"slo": "ttft=1"}, "did you mean 'ttft_s'?"),
        ({"endpoint": "http://x"}, {"slo": "ttft_s=soon"}, "it is no time in seconds"),
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
        ("a.csv", "prompt_tokens,output_tokens\n0,2\n", "each must be at least 1"),
        ("a.csv", "prompt_tokens,output_tokens\n", "it is empty"),
        ("a.json", "[]", "it is empty"),
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
    with fake_openai(Behaviour(token_s=0.02)) as fake:
        subject = load_endpoint(replace(point(fake, num_requests=1, max_tokens=50)))
        subject._client.timeout_s = 0.05
        (answer,) = subject.answers(0)
    assert answer.status == "timeout" and answer.ended_s < 0.5
