import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fake_kvscape import CRASH, GARBAGE, HANG, KILLED, LEAK, NO_MEMORY, REFUSED
from run_fake_study import Silent, at_rest, fake_command

from kvscape.analysis.free_memory import available_memory_bytes
from kvscape.config import BuildConfig, DesignPoint, EngineConfig, Workload
from kvscape.quality import Settings, Text, TextChoice
from kvscape.results import Record
from kvscape.study import ProcessExecutor, Quality, Space, Store, Study
from kvscape.study.executor import Failed, most_memory_bytes
from kvscape.study.flags import kvscape_command

QUALITY = Quality(Settings("windows", 64), Text("text", "words"), TextChoice(Path("poem.txt")))


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FAKE_PIPE", str(tmp_path / "no pipe"))
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "home"))
    return tmp_path / "log"


def point(seed: int = 0, quantization: str = "auto", model: str = "tiny", context: int = 512) -> DesignPoint:
    return DesignPoint(
        build=BuildConfig(model=model, quantization=quantization),
        engine=EngineConfig(context_window_size=context),
        workload=Workload(prompt_tokens=8, max_tokens=8, seed=seed),
    )


def executor(timeout_s: float = 600) -> ProcessExecutor:
    return ProcessExecutor(timeout_s=timeout_s, command=fake_command)


def study(space: Space, store: Store, retry: bool = False, memory: int = 10**12) -> list[Record]:
    return Study(space, store, executor(), Silent(), retry, lambda device: memory, reference=at_rest).run()


def test_a_child_gets_the_whole_point_as_flags() -> None:
    record = executor().bench(point())
    assert record.status == "ok"
    assert record.parameters == point().flat()


@pytest.mark.parametrize(
    ("seed", "status", "reason"),
    [
        (CRASH, "failed", "ended by SIGSEGV: about to crash"),
        (GARBAGE, "failed", "it printed no result that can be read: JSONDecodeError"),
        (KILLED, "out_of_memory", "ended by SIGKILL"),
        (NO_MEMORY, "out_of_memory", "MemoryError"),
        (REFUSED, "failed", "error: the model is missing: look for it"),
    ],
)
def test_what_goes_wrong_in_a_child_is_a_record_with_its_reason(seed: int, status: str, reason: str) -> None:
    record = executor().bench(point(seed))
    assert (record.status, record.metrics) == (status, {})
    assert record.reason.startswith(reason)
    assert record.parameters == point(seed).flat()


def test_a_child_that_hangs_is_ended_at_its_time_limit() -> None:
    record = executor(timeout_s=0.5).bench(point(HANG))
    assert (record.status, record.reason) == ("timeout", "no result after 0.5 s")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit a process's data")
def test_a_child_that_leaks_ends_at_its_memory_limit() -> None:
    limited = replace(executor(), memory_bytes=lambda: 600 << 20)
    record = limited.bench(point(LEAK))
    assert (record.status, record.reason) == ("out_of_memory", "MemoryError")
    assert limited.bench(point()).status == "ok"


def test_a_measurement_may_take_what_is_free() -> None:
    assert most_memory_bytes() > available_memory_bytes() // 2


@pytest.mark.parametrize("printed", ["[]", "{}", "null", "", '{"unknown": 1}'])
def test_an_answer_that_is_no_record_is_a_failure(printed: str) -> None:
    def command(arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-c", f"print({printed!r})"]

    record = ProcessExecutor(command=command).bench(point())
    assert record.status == "failed"
    assert "no result that can be read" in record.reason


@pytest.mark.parametrize("what", [" for the KV cache", ": the KV cache needs 3.0 GiB, in all 4.0 GiB"])
def test_a_gpu_that_is_full_is_out_of_memory(what: str) -> None:
    line = f"error: out of memory on cuda:0{what}: 3 MiB are free; use a smaller batch"

    def command(arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-S", "-c", f"import sys; print({line!r}, file=sys.stderr); sys.exit(2)"]

    record = ProcessExecutor(command=command).bench(point())
    assert (record.status, record.reason) == ("out_of_memory", line)


def test_a_program_that_does_not_exist_is_a_failure() -> None:
    record = ProcessExecutor(command=lambda arguments: ["/no/such/program"]).bench(point())
    assert record.status == "failed"
    assert "FileNotFoundError" in record.reason


def test_a_build_tells_what_a_study_must_know() -> None:
    facts = executor().build(point())
    assert not isinstance(facts, Failed)
    assert (facts.weights_bytes, facts.model.max_position_embeddings) == (100_000, 4096)
    failed = executor().build(point(model="broken"))
    assert failed == Failed("failed", "error: broken cannot be compiled")


def test_a_perplexity_is_asked_for_by_protocol_and_text(log: Path) -> None:
    assert executor().perplexity(point(quantization="q4f16_1"), QUALITY).perplexity == 44.0
    asked = json.loads(log.read_text())
    assert asked["verb"] == "ppl"
    assert (asked["protocol"], asked["context"], asked["text"]) == ("windows", "64", "poem.txt")
    assert (asked["quantization"], asked["kv_dtype"]) == ("q4f16_1", "f16")
    assert "limit" not in asked
    assert "prefill_chunk_size" not in asked


def test_a_perplexity_that_fails_is_a_record_too() -> None:
    record = executor().perplexity(point(quantization="q8f16_1"), QUALITY)
    assert record.status == "failed"
    assert record.reason == "KeyError: 'q8f16_1'"


def test_a_study_goes_on_after_every_failure(tmp_path: Path) -> None:
    points = (point(CRASH), point(GARBAGE), point(KILLED), point(NO_MEMORY), point(REFUSED), point())
    with Store(tmp_path / "study.db") as store:
        records = study(Space("s", points), store)
    assert [r.status for r in records] == ["failed", "failed", "out_of_memory", "out_of_memory", "failed", "ok"]


def test_what_cannot_fit_is_recorded_without_running(tmp_path: Path, log: Path) -> None:
    too_long = point(context=8192)
    no_room = DesignPoint(engine=EngineConfig(context_window_size=12), workload=Workload(8, 8))
    with Store(tmp_path / "study.db") as store:
        records = study(Space("s", (too_long, no_room)), store)
        assert [record.status for record in records] == ["infeasible", "infeasible"]
        assert "the model was made for 4096 tokens" in records[0].reason
        assert "exceed context_window_size 12" in records[1].reason
        big = study(Space("s", (point(),)), store, memory=13_390_000)
        assert big[0].status == "infeasible"
        assert "needs 0.1 MiB, in all 12.9 MiB: 12.8 MiB are free; use context" in big[0].reason
        assert "bench" not in log.read_text()
        assert study(Space("s", (point(),)), store)[0].status == "ok"  # there is room now


def test_points_of_a_build_that_fails_have_its_reason(tmp_path: Path) -> None:
    space = Space("s", (point(model="broken"), point()), quality=QUALITY)
    with Store(tmp_path / "study.db") as store:
        broken, fine = study(space, store)
        assert (broken.status, broken.reason) == ("failed", "error: broken cannot be compiled")
        assert fine.metrics["perplexity"] == 28.0
        assert [p.status for p in store.study_perplexities("s")] == ["failed", "ok"]


def test_failures_are_measured_again_only_when_asked(tmp_path: Path, log: Path) -> None:
    space = Space("s", (point(CRASH), point()))
    with Store(tmp_path / "study.db") as store:
        study(space, store)
        first = log.read_text().count("bench")
        study(space, store)
        assert log.read_text().count("bench") == first == 2
        study(space, store, retry=True)
        assert log.read_text().count("bench") == 3


def test_the_command_is_this_installation() -> None:
    assert kvscape_command(["bench", "--json"]) == [sys.executable, "-m", "kvscape", "bench", "--json"]


def test_each_subject_is_prepared_by_itself_and_predicted_by_its_own_arithmetic(tmp_path: Path, log: Path) -> None:
    ours, peers = point(), replace(point(), subject="llamacpp")
    with Store(tmp_path / "store.sqlite") as store:
        records = study(Space("both", (ours, peers)), store)
        assert [record.status for record in records] == ["ok", "ok"]
        small = study(Space("none", (replace(peers, threads=1),)), store, memory=1000)
    assert small[0].status == "infeasible" and "llamacpp needs" in small[0].reason
    built = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["subject"] for entry in built if entry["verb"] == "compile"] == ["kvscape", "llamacpp", "llamacpp"]
