import json

from kvscape.analysis.cuda import Gpu, Gpus
from kvscape.results import METRICS, PerplexityRecord, Record, current_environment
from kvscape.results.environment import _version
from kvscape.results.record import STATUSES
from made_records import made_perplexities, made_records


def test_records_survive_json() -> None:
    for record in made_records():
        assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record
    for perplexity in made_perplexities():
        assert PerplexityRecord.from_json(json.loads(json.dumps(perplexity.to_json()))) == perplexity


def test_the_keys_are_those_that_are_promised() -> None:
    record = made_records()[0].to_json()
    assert {"parameters", "metrics", "predicted", "samples", "environment", "status", "reason"} <= set(record)
    assert set(record["metrics"]) <= set(METRICS)
    assert STATUSES == ("ok", "infeasible", "failed", "timeout", "out_of_memory", "predicted")


def test_records_of_earlier_versions_load() -> None:
    older = made_records()[0].to_json()
    del older["intervals"], older["warm_up_s"]
    assert Record.from_json(older).intervals == {}


def test_the_environment_says_what_may_change_a_speed() -> None:
    environment = current_environment()
    facts = environment.to_json()
    assert json.loads(json.dumps(facts))["machine"] == environment.machine and len(environment.machine) == 12
    assert facts["memory_bytes"] > 0 and facts["cores"] >= 1
    assert facts["packages"]["numpy"].count(".") == 2


GPUS = Gpus((Gpu("H100", "sm_90", 132, 80 << 30), Gpu("A10", "sm_86", 72, 24 << 30)), driver="580.1")


def test_the_environment_of_a_gpu_names_it_and_has_a_fingerprint_of_its_own() -> None:
    here, large, small = (current_environment(device, GPUS) for device in ("cpu", "cuda:0", "cuda:1"))
    assert here == current_environment() and "gpu" not in here.to_json()
    names = ("gpu", "gpu_architecture", "gpu_memory_bytes", "gpu_driver")
    assert [large.to_json()[name] for name in names] == ["H100", "sm_90", 80 << 30, "580.1"]
    assert len({here.machine, large.machine, small.machine}) == 3
    assert current_environment("cuda:2", GPUS) == here


def test_a_package_that_is_not_there_is_said_so() -> None:
    assert _version("no-such-package-at-all") == "not installed"


def test_a_record_of_before_there_were_intervals_still_loads() -> None:
    old = made_records()[0].to_json()
    del old["intervals"], old["predicted_intervals"]
    assert Record.from_json(old) == made_records()[0]
