"""Tiny random models of every architecture, their logits on the GPU against those of the CPU's reference kernels.

``models.py build FOLDER [sm_90]`` anywhere compiles each for both, and keeps the CPU's logits; ``models.py run FOLDER``
where the GPU is needs TVM's runtime and numpy only. A text is computed in chunks, token by token, and so from
recorded launches: all must give the same bits.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from checked import Array, Checked, error, report

from architectures import ARCHITECTURES, TOKENS, RandomSource, with_heads
from kvscape.config import EngineConfig, ModelConfig
from kvscape.engine import Engine

LIMIT = 0.01
# Numbers between two codes become the other one when they are off by the last bit of f16: of what rounding costs.
SHARE = 0.75
CHUNK = 37


@dataclass(frozen=True)
class Case:
    """An architecture in its tiny shape with heads of ``head_dim``, and what else is to be tried with it."""

    architecture: str
    quantization: str
    kv_dtype: str
    head_dim: int = 32
    window: int = -1
    sinks: int = 0

    @property
    def name(self) -> str:
        return f"{self.architecture} {self.quantization} {self.kv_dtype} {self.head_dim} {self.window} {self.sinks}"

    @property
    def folder(self) -> str:
        return self.name.replace(" ", "_").replace(",", "_").replace("=", "")

    @property
    def model(self) -> ModelConfig:
        return with_heads(ARCHITECTURES[self.architecture], self.head_dim)

    def engine(self, chunk: int, kv_dtype: str = "") -> EngineConfig:
        return EngineConfig(
            context_window_size=512,
            prefill_chunk_size=chunk,
            kv_dtype=kv_dtype or self.kv_dtype,
            sliding_window_size=self.window,
            attention_sink_size=self.sinks,
        )


CASES = (
    Case("llama", "q4f16_1", "f16", 64),
    Case("llama", "q4af16_1", "int4", 64, window=96, sinks=4),
    Case("mistral", "q0f32", "int8"),
    Case("qwen2", "q4f32_1", "int4"),
    Case("qwen3", "q8f16_1", "f32", 128),
    Case("gemma2", "q0f16", "f16"),
    Case("gemma3_text", "q3f16_1", "int8", 256),
    Case("phi3", "q8f32_1", "k=int8,v=int4", 96),
)


def build(folder: Path, architecture: str, only: str) -> None:
    """A folder for each case: the GPU's library and weights, and the CPU's logits, of an f32 cache as well."""
    for case in CASES:
        if only in case.name:
            _build(case, folder / case.folder, architecture)


def _build(case: Case, folder: Path, architecture: str) -> None:
    from kvscape.artifact import Artifact
    from kvscape.compiler.build import LibrarySpec, compile_library
    from kvscape.compiler.target import detect_target, find_any_target
    from kvscape.engine.devices.cpu import CpuDevice
    from kvscape.weights.convert import convert
    from kvscape.weights.pack import pack_weights

    shutil.rmtree(folder, ignore_errors=True)
    artifact = Artifact(folder / "artifact")
    convert(RandomSource(case.model), artifact.folder, case.quantization)
    formats = {name: info.format for name, info in artifact.manifest.tensors.items() if len(info.shape) > 1}
    precisions = tuple(dict.fromkeys((case.kv_dtype, "f32")))
    for target, kv_dtypes in ((detect_target(), precisions), (find_any_target(architecture), precisions[:1])):
        pack_weights(artifact, target.layout)
        spec = LibrarySpec(case.model, formats, target, target.activation("float32"), kv_dtypes=kv_dtypes)
        compile_library(spec, folder / f"{target.layout.name}.tar")
    cpu = detect_target().layout.name
    device = CpuDevice(folder / f"{cpu}.tar", artifact.packed_weights(cpu), threads=2)
    kept, exact = (logits(Engine(device, case.engine(CHUNK, kv))) for kv in (case.kv_dtype, "f32"))
    np.savez(folder / "logits.npz", kept=kept, exact=exact)
    artifact.packed_weights("fragments").rename(folder / "fragments.safetensors")
    shutil.rmtree(artifact.folder)
    (folder / f"{cpu}.tar").unlink()


def logits(engine: Engine) -> Array:
    """Those of all tokens but the last."""
    return np.concatenate([rows.copy() for rows in engine.distributions(TOKENS)])


def check(case: Case, folder: Path) -> Checked:
    from kvscape.engine.devices.cuda import CudaDevice

    files = folder / "fragments.tar", folder / "fragments.safetensors"
    plain, replaying = (CudaDevice(*files, graphs=graphs) for graphs in (False, True))
    ways = ((plain, CHUNK), (plain, 1), (replaying, 1))
    found, *others = (logits(Engine(device, case.engine(chunk))) for device, chunk in ways)
    known = {name: array.astype(np.float64) for name, array in np.load(folder / "logits.npz").items()}
    limit = max(LIMIT, SHARE * error(known["kept"], known["exact"]))
    return Checked(case.name, error(found, known["kept"]), all(np.array_equal(found, other) for other in others), limit)


def checks(folder: Path, only: str) -> Iterator[Checked]:
    for case in CASES:
        if only in case.name:
            yield check(case, folder / case.folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("build", "run"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("architecture", nargs="?", default="sm_90")
    parser.add_argument("--only", default="", help="what is in a case's name, e.g. gemma or int4")
    asked = parser.parse_args()
    if asked.command == "run":
        return report(checks(asked.folder, asked.only))
    build(asked.folder, asked.architecture, asked.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
