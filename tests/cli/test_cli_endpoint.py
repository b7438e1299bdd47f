"""``kvscape bench --endpoint`` and a study of a server, against a small one."""

import json
from pathlib import Path

import pytest

from fake_openai import Behaviour, FakeOpenAI, fake_openai
from kvscape.cli.main import run


def bench(fake: FakeOpenAI, *flags: str) -> list[str]:
    few = ("--num-requests", "12", "--num-runs", "1", "--prompt-tokens", "16", "--max-tokens", "3")
    return ["bench", "--endpoint", fake.url, *few, *flags]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "home"))


def test_a_load_is_measured_and_put_into_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with fake_openai() as fake:
        run(bench(fake, "--concurrency", "2", "--slo", "ttft_s=5", "--out-dir", str(tmp_path), "--json"))
        record = json.loads(capsys.readouterr().out)
        run(bench(fake, "--concurrency", "4", "--out-dir", str(tmp_path)))
    assert record["parameters"]["model"] == "tiny" and record["parameters"]["subject"] == "endpoint"
    assert record["metrics"]["goodput_requests_per_s"] > 0 and record["errors"] == {}
    assert record["files"] == [str(tmp_path / "endpoint_load.csv")]
    assert len((tmp_path / "endpoint_load.csv").read_text().splitlines()) == 3
    told = capsys.readouterr().out
    assert "Time to first token, 99th percentile" in told and "requests counted" in told and "MiB" not in told
    run(["plot", "load", "--csv", record["files"][0], "--out-dir", str(tmp_path), "--format", "svg"])
    assert (tmp_path / "load_latency_vs_concurrency.svg").is_file()


def test_what_fails_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_openai(Behaviour(lambda number: "500" if number == 7 else "ok")) as fake:
        run(bench(fake))
    assert "errors: 1 x 500" in capsys.readouterr().out


def test_a_server_that_refuses_all_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_openai(Behaviour(lambda number: "ok" if number < 2 else "busy")) as fake:
        assert run(bench(fake, "--concurrency", "12")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no request had an answer (12 x 429): too many" in line


def test_a_folder_that_cannot_be_written_is_found_before_the_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    with fake_openai() as fake:
        assert run(bench(fake, "--out-dir", str(tmp_path / "file"))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot write" in line and "choose a folder" in line
    assert fake.asked == []


def test_a_study_of_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    axes = ("subject=endpoint", "concurrency=2", "num_requests=12", "num_runs=1", "prompt_tokens=16", "max_tokens=3")
    with fake_openai() as fake:
        flags = [part for axis in (f"endpoint={fake.url}", "model=tiny", *axes) for part in ("--axis", axis)]
        assert run(["study", *flags, "--out", str(tmp_path), "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [point["status"] for point in told["points"]] == ["ok"]
    assert "total_bytes" not in told["points"][0]["metrics"]
    assert (tmp_path / "plots" / "load_throughput_vs_concurrency.png").is_file()
    page = (tmp_path / "report.html").read_text()
    assert "Servers under load" in page and fake.url in page
