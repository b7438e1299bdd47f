"""What the engine itself takes for each sequence of a step, on a device that answers at once."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from kvscape.artifact import LibraryMetadata
from kvscape.config import EngineConfig, ModelConfig
from kvscape.engine import Engine, Request, SamplingParams
from kvscape.engine.devices.device import Asked, Draw, FloatArray, IntArray, KVPools, Logits, StepInput
from kvscape.engine.token_logprob import TokenLogprob

_MODEL = ModelConfig("llama", 64, 128, 1, 1, 1, 64, 1000, 1e-5, 1e4, 1024, True, None, ())
_BATCH, _PROMPT, _TOKENS = 16, 512, 100
_UNASKED = "greedy answers ask for nothing else"


def token_s() -> float:
    """Seconds of a decode step of many sequences, for each of them: scheduler, numbers, pages and texts."""
    config = EngineConfig(_PROMPT + _TOKENS, _PROMPT, _BATCH, prefix_cache=False)
    engine, times_s = Engine(_Silent(), config, _Text), list[float]()
    params = SamplingParams(max_tokens=_TOKENS, temperature=0.0, ignore_eos=True)
    for number in range(_BATCH):
        engine.add(Request(str(number), (1,) * _PROMPT, params))
    while engine.has_work:
        start_s = time.perf_counter()
        outputs = engine.step()
        if len(outputs) == _BATCH:  # no prompt is read any more, none has ended
            times_s.append(time.perf_counter() - start_s)
    return median(times_s) / _BATCH


class _Text:
    def add(self, token_id: int) -> str:
        return "a"

    def finish(self) -> str:
        return ""


@dataclass(frozen=True)
class _Pools:
    nbytes: int = 0


@dataclass(frozen=True)
class _Rows:
    shape: tuple[int, int]


class _Silent:
    """A device that computes nothing and draws the same token again and again."""

    model = _MODEL

    @property
    def metadata(self) -> LibraryMetadata:
        raise NotImplementedError(_UNASKED)

    def allocate(
        self, kv_dtype: str, num_pages: Sequence[int], page_size: int, num_tails: int, seen_tokens: int = 0
    ) -> KVPools:
        return _Pools()

    def copy(self, pools: KVPools, pages: Sequence[IntArray], tails: IntArray) -> None:
        raise NotImplementedError(_UNASKED)

    def forward(self, step: StepInput, pools: KVPools) -> Logits:
        return _Rows((len(step.logit_rows), _MODEL.vocab_size))

    def logprobs(self, logits: Logits, token_ids: Sequence[int]) -> FloatArray:
        raise NotImplementedError(_UNASKED)

    def greedy(self, logits: Logits) -> list[int]:
        return [1] * logits.shape[0]

    def sample(self, logits: Logits, draws: Sequence[Draw]) -> list[int]:
        raise NotImplementedError(_UNASKED)

    def token_logprobs(self, logits: Logits, asked: Sequence[Asked]) -> list[TokenLogprob]:
        raise NotImplementedError(_UNASKED)

    def fetch(self, logits: Logits) -> FloatArray:
        raise NotImplementedError(_UNASKED)
