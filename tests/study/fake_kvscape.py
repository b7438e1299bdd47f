"""Stands for ``python -m kvscape``: answers at once, or goes wrong in the way that ``--seed`` names.

It imports little, since a test may start it a dozen times.
"""

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from kvscape.analysis.memory import Workspace
from kvscape.config import DesignPoint, ModelConfig
from kvscape.results import PerplexityRecord, Record

MODEL = ModelConfig(
    model_type="llama",
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    vocab_size=100,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    max_position_embeddings=4096,
    tie_word_embeddings=True,
)
WORKSPACES = {name: Workspace(100, 1, 1, 1) for name in ("f16", "int8")}
FACTS = {
    "model": asdict(MODEL),
    "weights_bytes": 100_000,
    "weights_key": "weights",
    "library_key": "library",
    "workspaces": {name: asdict(workspace) for name, workspace in WORKSPACES.items()},
    "artifact": "/somewhere",
}
CRASH, HANG, GARBAGE, KILLED, NO_MEMORY, REFUSED, BLOCKED, LEAK = range(1, 9)


def block() -> None:
    """Tell the test through its pipe that this process runs, then wait for the end."""
    pipe = Path(os.environ["FAKE_PIPE"])
    if pipe.exists():
        pipe.write_text(f"{os.getpid()}\n")
        signal.pause()


def misbehave(seed: int) -> None:
    if seed == CRASH:
        print("about to crash", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    elif seed == HANG:
        signal.pause()
    elif seed == GARBAGE:
        print("{not json")
        sys.exit(0)
    elif seed == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    elif seed == NO_MEMORY:
        raise MemoryError
    elif seed == LEAK:
        kept = []
        while True:
            kept.append(bytearray(16 << 20))
    elif seed == REFUSED:
        print("error: the model is missing: look for it", file=sys.stderr)
        sys.exit(2)
    elif seed == BLOCKED:
        block()


def facts() -> dict[str, object]:
    """What ``compile`` prints; the artefact is a folder where a test has one."""
    folder = os.environ.get("FAKE_ARTIFACT", str(FACTS["artifact"]))
    return {**FACTS, "artifact": folder, "library": f"{folder}/lib/library.tar"}


def parsed(arguments: list[str]) -> dict[str, str | bool]:
    """Values by name; a switch has no value."""
    chosen: dict[str, str | bool] = {}
    for argument, value in zip(arguments, [*arguments[1:], "--"], strict=True):
        name = argument.removeprefix("--").replace("-", "_")
        if argument.startswith("--"):
            chosen[name.removeprefix("no_")] = not name.startswith("no_") if value.startswith("--") else value
    return chosen


def typed(value: str | bool) -> str | bool | int:
    return int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value


def main(verb: str, arguments: list[str]) -> None:
    assert arguments[-1] == "--json"
    chosen = parsed(arguments[:-1])
    with Path(os.environ["FAKE_LOG"]).open("a", encoding="utf-8") as log:
        log.write(json.dumps({"verb": verb, **chosen}) + "\n")
    parameters = {name: typed(value) for name, value in chosen.items()}
    if verb == "compile":
        if chosen["model"] == "broken":
            sys.exit("error: broken cannot be compiled")
        print(json.dumps(facts()))
    elif verb == "ppl":
        score = {"auto": 28.0, "q4f16_1": 44.0}[str(chosen["quantization"])]
        record = PerplexityRecord(parameters, score, 0.5, 3.3, 100, str(chosen["protocol"]), 64, "text", "sha")
        print(json.dumps(record.to_json()))
    else:
        point = DesignPoint.from_flat(parameters)
        misbehave(point.workload.seed)
        metrics = {"total_bytes": 1000.0, "tpot_s": 0.01, "decode_tokens_per_s": 100.0}
        print(json.dumps(Record(point.flat(), metrics, {}, {}, {}).to_json()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
