"""What is asked of a server on a GPU is right for one on the processor."""

from pathlib import Path

import pytest
import server

from commands import SHARED_CORES
from kvscape import LLM


def test_a_server_does_what_its_users_see(
    kvscape_home: Path,
    long_gguf: Path,
    tiny_llm: LLM,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del tiny_llm  # is compiled by then
    for name, value in {**SHARED_CORES, "KVSCAPE_HOME": str(kvscape_home)}.items():
        monkeypatch.setenv(name, value)
    status = server.run(["--model", str(long_gguf), "--kv-dtype", "f16"])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert len(printed.splitlines()) == len(server.CHECKS) + 2


def test_what_is_wrong_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError, match=r"it does not start: .*cuda:77"):
        server.run(["--model", "random://smollm2-135m", "--device", "cuda:77"])
