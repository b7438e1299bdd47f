"""kvscape's own engine as a subject."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kvscape.analysis.memory import Memory, predict_memory
from kvscape.artifact.tensor_file import map_tensors
from kvscape.config import BuildConfig, Calibration, DesignPoint, ModelConfig, cuda_index
from kvscape.engine import Request, SamplingParams
from kvscape.hub import Progress, silent
from kvscape.quantization.layouts import LAYOUTS
from kvscape.quantization.scheme import Scheme
from kvscape.subjects.endpoint import KNOBS, check_local
from kvscape.subjects.subject import Token
from kvscape.version import __version__
from kvscape.weights.pack import packed_bytes

if TYPE_CHECKING:
    from kvscape.llm import LLM


predict = predict_memory
LACKED = KNOBS


def version() -> str:
    return __version__


def check_point(point: DesignPoint) -> None:
    """Raise ConfigError or DeviceError for a quantization or a device that kvscape does not have."""
    from kvscape.llm.build import check_device

    check_local(point)
    Scheme(point.build.quantization, point.build.embedding_quantization)
    cuda_index(point.build.device)
    check_device(point.build.device)


def source_model(build: BuildConfig, progress: Progress = silent) -> ModelConfig:
    """Shape of a build's model, downloaded and converted where it is not there."""
    from kvscape.llm.build import find_artifact

    return find_artifact(build, progress).manifest.model


def load_kvscape(point: DesignPoint, jit: str = "on", model_lib: Path | None = None) -> "KvscapeSubject":
    """Find or build the point's artefact and load it."""
    from kvscape.llm import LLM  # a study names subjects without loading TVM

    llm = LLM(**asdict(point.build), **asdict(point.engine), threads=point.threads, jit=jit, model_lib=model_lib)
    return KvscapeSubject(llm)


class KvscapeSubject:
    """An open ``LLM``, stepped by hand so that every step can be timed; ``sleep`` is called where nothing is to do."""

    def __init__(
        self,
        llm: "LLM",
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._llm, self._clock, self._sleep = llm, clock, sleep

    @property
    def model(self) -> ModelConfig:
        return self._llm.metadata.model

    @property
    def memory(self) -> Memory:
        return self._llm.memory

    @property
    def predicted_memory(self) -> Memory:
        weights_bytes = packed_bytes(self._llm.artifact, LAYOUTS[self._llm.metadata.layout])
        return predict_memory(self.model, self._llm.engine.config, weights_bytes, self._llm.metadata.workspaces)

    @property
    def peak_device_bytes(self) -> int | None:
        return self._llm.device.taken_bytes

    @property
    def bits_per_weight(self) -> float:
        return self._llm.artifact.manifest.bits_per_weight

    @property
    def build_key(self) -> str:
        return f"{self._llm.artifact.manifest.weights_key} {self._llm.metadata.key}"

    @property
    def kernels(self) -> tuple[str, ...]:
        used = self._llm.engine.config.kv_dtype
        others = tuple(f"_{kv_dtype}" for kv_dtype in self._llm.metadata.kv_dtypes if kv_dtype != used)
        return tuple(name for name in self._llm.metadata.kernels if not name.endswith(others))

    @cached_property
    def ordinary_token_ids(self) -> Sequence[int]:
        tokenizer = self._llm.tokenizer
        return [token for token in range(self.model.vocab_size) if tokenizer.token_bytes(token)]

    @property
    def leading_token_id(self) -> int | None:
        return self._llm.tokenizer.bos_token_id

    @property
    def calibration(self) -> tuple[Calibration, NDArray[np.int32]] | None:
        """What the weights were calibrated on, and its windows of tokens."""
        artifact = self._llm.artifact
        if (calibration := artifact.manifest.calibration) is None:
            return None
        return calibration, map_tensors(artifact.calibration_tokens)["token_ids"]

    def encode(self, text: str) -> list[int]:
        return self._llm.tokenizer.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self._llm.tokenizer.decode(token_ids)

    def token_bytes(self, token_id: int) -> bytes:
        return self._llm.tokenizer.token_bytes(token_id)

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Iterator[list[Token]]:
        return self.serve(prompts, max_tokens, [0.0] * len(prompts))

    def serve(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, asked_s: Sequence[float]
    ) -> Iterator[list[Token]]:
        """A request that comes during a step is added after it; a request without a place waits in the engine."""
        engine, params = self._llm.engine, SamplingParams(max_tokens=max_tokens, ignore_eos=True)
        start, added = self._clock(), 0
        while added < len(prompts) or engine.has_work:
            now = self._clock() - start
            while added < len(prompts) and asked_s[added] <= now:
                engine.add(Request(str(added), tuple(prompts[added]), params))
                added += 1
            if not engine.has_work:
                self._sleep(asked_s[added] - now)
                continue
            yield [Token(int(out.request_id), token) for out in engine.step() for token in out.token_ids]

    def score(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        return self._llm.engine.score(token_ids)

    def score_chunks(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        return self._llm.engine.score_chunks(token_ids)

    def distributions(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        return self._llm.engine.distributions(token_ids)

    def close(self) -> None:
        self._llm.close()
