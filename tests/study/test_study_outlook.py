"""What a study says before it measures."""

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_executor import FakeExecutor, space
from run_fake_study import Silent, at_rest

from kvscape.analysis.roofline import DeviceRates
from kvscape.study import Space, Store, Study, parse_space
from kvscape.study.builds import known_builds
from kvscape.study.outlook import Outlook, look_ahead
from kvscape.study.search import SearchSettings


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "home"))
    with Store(tmp_path / "study.sqlite") as opened:
        yield opened


def rates(nbytes: int, threads: None, device: str) -> DeviceRates:
    return DeviceRates(1e9, 1e9)


def outlook(what: Space, store: Store, memory: int = 10**12, executor: FakeExecutor | None = None) -> Outlook:
    builds = known_builds(what.points, executor or FakeExecutor(), Silent(), store)
    return look_ahead(what, builds, store, lambda device: memory, rates=rates)


def test_it_counts_what_is_to_be_done_and_what_is_done(store: Store) -> None:
    ahead = outlook(space(), store)
    assert (ahead.points, ahead.feasible, ahead.measured, ahead.to_measure, ahead.to_score) == (16, 16, 0, 16, 2)
    assert ahead.estimated_s > 16 * 3
    Study(space(2), store, FakeExecutor(), Silent(), available_bytes=lambda device: 10**12, reference=at_rest).run()
    ahead = outlook(space(), store)
    assert (ahead.measured, ahead.to_measure, ahead.to_score) == (4, 12, 0)


def test_a_search_measures_less_and_repeats_more(store: Store) -> None:
    whole, some = outlook(space(), store), replace(space(), search=SearchSettings("sobol", 4, repeats=3))
    ahead = outlook(some, store)
    assert (ahead.search, ahead.to_measure, ahead.to_score) == ("sobol", 12, 2)
    assert ahead.estimated_s < whole.estimated_s
    assert outlook(replace(some, search=SearchSettings("sobol", 4, 0.01)), store).estimated_s == pytest.approx(0.6)


def test_reasons_that_differ_in_numbers_are_one_group_with_an_example(store: Store) -> None:
    text = """
        base = {model = "tiny"}
        axes = {context_window_size = [512, 2048, 8192, 16384], max_batch_size = [1, 2]}
        [[exclude]]
        context_window_size = 512
        max_batch_size = 2
        reason = "too small for two"
        """
    ahead = outlook(parse_space(tomllib.loads(text), Path("s.toml")), store, memory=13_700_000)
    assert [(group.points, group.reason) for group in ahead.excluded] == [(1, "too small for two")]
    assert ahead.excluded[0].example == {"model": "tiny", "context_window_size": 512, "max_batch_size": 2}
    first, second = ahead.infeasible
    assert first.points == 4 and "context_window_size = 8192: the model was made for 4096 tokens" in first.reason
    assert second.points == 2 and "the KV cache of context_window_size 2048 x max_batch_size 1" in second.reason
    assert ahead.feasible == 1


def test_an_estimate_learns_from_what_records_took(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvscape.study.measuring.time", SimpleNamespace(monotonic=lambda: 0.0))
    guessed = outlook(space(), store).estimated_s
    Study(space(2), store, FakeExecutor(), Silent(), available_bytes=lambda device: 10**12, reference=at_rest).run()
    assert outlook(space(), store).estimated_s < guessed / 10  # these records took no time


def test_builds_are_made_once_and_then_known(store: Store) -> None:
    first, second = FakeExecutor(), FakeExecutor()
    outlook(space(), store, executor=first)
    outlook(space(), store, executor=second)
    assert (len(first.asked), len(second.asked)) == (1, 0)


def test_thousands_of_points_are_judged_by_what_their_few_builds_say(store: Store) -> None:
    text = """
        base = {model = "tiny"}
        [axes]
        quantization = ["auto", "q8f16_1", "q4f16_1", "q3f16_1"]
        kv_dtype = ["f16", "int8"]
        context_window_size = "512:8192:*2"
        prefill_chunk_size = [64, 128, 256, 512]
        max_batch_size = [1, 2, 4, 8]
        sliding_window_size = [-1, 512, 1024]
        page_size = [16, 32]
        """
    many = parse_space(tomllib.loads(text), Path("s.toml"))
    assert len(many.points) == 3840
    executor = FakeExecutor()
    ahead = outlook(many, store, memory=20_000_000, executor=executor)
    assert 0 < ahead.feasible < 3840 and len(ahead.infeasible) >= 2
    assert len(executor.asked) == 4
