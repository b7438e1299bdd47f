"""What penalties, masks and log-probabilities cost on a GPU: ``gpu_edits.py LIBRARY FOLDER [--json FILE]``.

``gpu_library.py`` makes the library anywhere; the random weights go to ``FOLDER`` once, as those of ``gpu.py``. Each
kind of request decodes behind 512 tokens at batch 1 and 16, once as the GPU does it, and once with the logits on the
host. The median step counts; tokens must be the same, and log-probabilities, or the status is 1.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from gpu import TimedDevice, opened
from kvscape.config import EngineConfig
from kvscape.engine import Request, SamplingParams
from kvscape.engine.devices.device import Asked, Draw, Logits
from kvscape.engine.draws import sampled
from kvscape.engine.engine import Engine
from kvscape.engine.guide import BoolArray
from kvscape.engine.logprobs import token_logprobs
from kvscape.engine.token_logprob import TokenLogprob

PROMPT, WARM, DECODED, BY_HOST = 512, 4, 40, 12
PENALTIES: dict[str, Any] = {"repetition_penalty": 1.1, "frequency_penalty": 0.3, "presence_penalty": 0.1}
KINDS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "drawn": {"temperature": 0.8, "top_p": 0.95, "seed": 1},
    "penalties": PENALTIES,
    "mask": {},
    "logprobs": {"logprobs": 5},
    "all": {**PENALTIES, "temperature": 0.8, "top_p": 0.95, "seed": 1, "logprobs": 20},
}
GUIDED = ("mask", "all")


class Half:
    """Allows one half of the tokens, then the other, made before: what is timed is not the guide."""

    may_end = complete = False

    def __init__(self, vocab_size: int) -> None:
        self._halves = [np.random.default_rng(7).random(vocab_size) < 0.5]
        self._halves.append(~self._halves[0])

    def allowed(self) -> BoolArray:
        return self._halves[0]

    def accept(self, token_id: int) -> None:
        assert self._halves[0][token_id], "a token that is not allowed"
        self._halves.reverse()


class ByHost:
    """A device whose logits go to the host for all that is not greedy."""

    def __init__(self, device: TimedDevice) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def sample(self, logits: Logits, draws: Sequence[Draw]) -> list[int]:
        return sampled(self._device.fetch(logits), draws)

    def token_logprobs(self, logits: Logits, asked: Sequence[Asked]) -> list[TokenLogprob]:
        return token_logprobs(self._device.fetch(logits), asked)


def requests(kind: str, batch: int, steps: int, vocab_size: int) -> Iterator[Request]:
    rng = np.random.default_rng(0)
    guided = kind in GUIDED
    params = SamplingParams(max_tokens=steps, ignore_eos=not guided, **KINDS[kind])
    for index in range(batch):
        prompt = tuple(map(int, rng.integers(0, vocab_size, PROMPT)))
        yield Request(str(index), prompt, params, guide=(lambda: Half(vocab_size)) if guided else None)


def decoded(device: Any, kind: str, batch: int, steps: int) -> tuple[float, dict[str, list[Any]]]:
    """The median step's seconds, and what each request was told."""
    size = batch * (PROMPT + DECODED + WARM + 16)
    engine = Engine(device, EngineConfig(8192, 8192, batch, size, kv_dtype="f16", prefix_cache=False))
    for request in requests(kind, batch, WARM + steps, device.model.vocab_size):
        engine.add(request)
    told: dict[str, list[Any]] = {}
    spent = []
    while engine.has_work:
        start = time.perf_counter()
        outputs = engine.step()
        spent.append(time.perf_counter() - start)
        for one in outputs:
            told.setdefault(one.request_id, []).extend(zip(one.token_ids, one.logprobs or [None], strict=True))
    return median(spent[-steps:]), told


def values(told: TokenLogprob) -> list[float]:
    return [told.logprob, *(value for _, value in told.top)]


def differ(here: dict[str, list[Any]], there: dict[str, list[Any]]) -> tuple[int, float]:
    """How many of the requests were told other tokens, and how far apart log-probabilities are."""
    different, apart = 0, 0.0
    for name, wanted in there.items():
        got = here[name][: len(wanted)]
        if [token for token, _ in got] != [token for token, _ in wanted]:
            different += 1
            continue
        for (_, one), (_, other) in zip(got, wanted, strict=True):
            if one is not None:
                different += [token for token, _ in one.top] != [token for token, _ in other.top]
                apart = max(apart, *(abs(a - b) for a, b in zip(values(one), values(other), strict=True)))
    return different, apart


def main() -> int:
    parser = argparse.ArgumentParser(description="Time what requests do to their logits on a GPU.")
    parser.add_argument("library", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--json", type=Path, help="where each row is kept, a line each")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    device, bad = opened(asked.library, asked.folder), 0
    print("| batch | kind | step ms | by the host | tokens differ | log-probabilities apart |")
    for batch in asked.batch:
        for kind in KINDS:
            step_s, here = decoded(device, kind, batch, DECODED)
            host_s, there = decoded(ByHost(device), kind, batch, BY_HOST)
            different, apart = differ(here, there)
            bad += different > 0 or apart > 1e-4
            times = f"{1e3 * step_s:.2f} | {1e3 * host_s:.2f}"
            print(f"| {batch} | {kind} | {times} | {different} | {apart:.1e} |", flush=True)
            row = {"batch": batch, "kind": kind, "step_s": step_s, "by_host_s": host_s}
            if asked.json:
                with asked.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({**row, "differ": different, "apart": apart}) + "\n")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
