"""Convert a model with weights that are rounded for a text."""

import hashlib
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from kvscape.analysis.cpu import default_threads
from kvscape.artifact import Artifact
from kvscape.artifact.tensor_file import is_whole, map_tensors
from kvscape.artifact.tensor_writer import write_tensors
from kvscape.calibration.round_layers import RoundLayers, rounded_names
from kvscape.calibration.source import CalibratedSource, CalibratedTensor
from kvscape.calibration.windows import BATCH, Windows, windows_of, written_windows
from kvscape.compiler.key import sources_sha256
from kvscape.compiler.stages import compile_stages
from kvscape.compiler.target import detect_target
from kvscape.config import CALIBRATION_METHOD, SELF, Calibration, CalibrationMethod
from kvscape.engine.devices.stages import CpuStages
from kvscape.errors import ConfigError
from kvscape.plain_text import Text
from kvscape.quantization.scheme import Scheme
from kvscape.tokenizer import Tokenizer
from kvscape.weights.convert import convert
from kvscape.weights.source import Source
from kvscape.weights.write_weights import Weights

_TOGETHER = 4
"""Windows that go through a stage at once."""


class Progress(Protocol):
    """Told how much of ``what`` is done."""

    def __call__(self, what: str, done: int, total: int) -> None: ...


@dataclass(frozen=True)
class Plan:
    """Rounds ``source`` as ``scheme`` says, for ``text``, or for what the model of the artefact ``writer`` writes.

    ``work`` is a folder of its own, in which an interrupted calibration is found again.
    """

    source: Source
    scheme: Scheme
    text: Text | Path
    work: Path
    progress: Progress
    method: CalibrationMethod = CALIBRATION_METHOD

    def convert(self, folder: Path) -> Artifact:
        """Write the artefact to ``folder``. Raises ConfigError where nothing is rounded, or the text is too short."""
        weights = Weights.of(self.source, self.scheme)
        if not rounded_names(weights):
            why = f"the file has its weights in {self.scheme.quantization} already"
            raise ConfigError("there is nothing to calibrate", why, "leave --calibrate out")
        windows = self._windows()
        codes = self._layers(weights, windows).codes(windows)
        tensors = {n: CalibratedTensor(weights.tensors[n], weights.formats[n], arrays) for n, arrays in codes.items()}
        return convert(
            CalibratedSource(self.source, tensors),
            folder,
            self.scheme.quantization,
            self.scheme.embedding_quantization,
            lambda done, total: self.progress("convert", done, total),
            self._facts(windows),
            windows,
        )

    def _windows(self) -> Windows:
        """The tokens to calibrate on, kept from their first reading or writing on."""
        path = self.work / "windows.safetensors"
        if not is_whole(path):
            write_tensors(path, {"token_ids": self._read() if isinstance(self.text, Text) else self._written()})
        return map_tensors(path)["token_ids"]

    def _read(self) -> Windows:
        assert isinstance(self.text, Text)
        token_ids = self._tokenizer().encode(self.text.content)
        return windows_of(token_ids, self.method.windows, self._window, self.source.config.bos_token_id)

    def _written(self) -> Windows:
        from kvscape.llm import LLM

        with LLM(str(self.text), context_window_size=self._window, max_batch_size=BATCH, prefix_cache=False) as llm:
            count, seed = self.method.windows, self.method.seed
            return written_windows(llm, count, self._window, seed, lambda *done: self.progress("write a text", *done))

    @property
    def _window(self) -> int:
        return min(self.method.window, self.source.config.longest_context)

    def _tokenizer(self) -> Tokenizer:
        return Tokenizer(self.source.tokenizer_json, self.source.config.bos_token_id)

    def _layers(self, weights: Weights, windows: Windows) -> RoundLayers:
        config, target = self.source.config, detect_target()
        library = self.work / f"stages-{target.name}-{sources_sha256()[:12]}.tar"
        if not library.exists():
            compile_stages(config, target, library)
        together = math.gcd(len(windows), _TOGETHER)
        stages = CpuStages(library, config, together, windows.shape[1], default_threads())
        batch = together * windows.shape[1]
        progress = partial(self.progress, "calibrate")
        return RoundLayers(weights, config, self.method, stages, batch, self.work, progress)

    def _facts(self, windows: Windows) -> Calibration:
        if isinstance(self.text, Text):
            name, sha256 = self.text.name, self.text.sha256
        else:
            texts = map(self._tokenizer().decode, windows.tolist())
            name, sha256 = SELF, hashlib.sha256("".join(texts).encode()).hexdigest()
        return Calibration(name, sha256, windows.size, self.method)
