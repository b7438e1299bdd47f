"""A calibrated artefact is one like any other, nearer to its model, and an interrupted calibration goes on."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kvscape.artifact import Artifact
from kvscape.artifact.tensor_file import map_tensors
from kvscape.calibration.calibrate import Plan, Progress
from kvscape.calibration.layer_inputs import LayerInputs
from kvscape.config import CalibrationMethod
from kvscape.engine.devices.stages import CpuStages
from kvscape.errors import ConfigError
from kvscape.plain_text import Text, built_in_text
from kvscape.quantization.arrays import F32, Array
from kvscape.quantization.decode import decode
from kvscape.quantization.format import FORMATS
from kvscape.quantization.scheme import EMBEDDING, Scheme
from kvscape.weights.convert import convert
from kvscape.weights.readers.gguf import GgufSource
from kvscape.weights.write_weights import Weights

METHOD = CalibrationMethod(windows=8, window=64)
Q4 = Scheme("q4f16_1")
TEXT = Text("words", built_in_text("calibration").content[:8000])


def silent(what: str, done: int, total: int) -> None:
    """Show nothing."""


def plan(gguf: Path, work: Path, progress: Progress = silent, scheme: Scheme = Q4, text: Text = TEXT) -> Plan:
    return Plan(GgufSource(gguf), scheme, text, work, progress, METHOD)


@pytest.fixture(scope="module")
def calibrated(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("calibrated")
    return plan(tiny_gguf, folder / "work").convert(folder / "artifact")


@pytest.fixture
def library(calibrated: Artifact) -> Path:
    """The stages that the artefact was calibrated with."""
    (path,) = calibrated.folder.with_name("work").glob("stages-*.tar")
    return path


def test_only_codes_and_scales_differ_from_plain_rounding(
    calibrated: Artifact, tiny_gguf: Path, tmp_path: Path
) -> None:
    plain = convert(GgufSource(tiny_gguf), tmp_path / "plain", "q4f16_1")
    stored, expected = map_tensors(calibrated.canonical_weights), map_tensors(plain.canonical_weights)
    assert {n: (a.dtype, a.shape) for n, a in stored.items()} == {n: (a.dtype, a.shape) for n, a in expected.items()}
    same = {name for name in stored if stored[name].tobytes() == expected[name].tobytes()}
    assert {name for name in stored if name.endswith((".q_weight", ".q_scale"))} == set(stored) - same
    assert calibrated.manifest.bits_per_weight == plain.manifest.bits_per_weight
    assert calibrated.manifest.weights_key != plain.manifest.weights_key
    assert plain.manifest.calibration is None


def test_the_manifest_says_what_it_was_calibrated_on(calibrated: Artifact) -> None:
    facts = calibrated.manifest.calibration
    assert facts is not None
    assert (facts.text, facts.text_sha256, facts.tokens, facts.method) == ("words", TEXT.sha256, 8 * 64, METHOD)
    assert map_tensors(calibrated.calibration_tokens)["token_ids"].shape == (8, 64)


def test_a_manifest_of_before_there_was_calibration_is_read(calibrated: Artifact, tmp_path: Path) -> None:
    content = json.loads((calibrated.folder / "kvscape.json").read_text(encoding="utf-8"))
    del content["calibration"]
    (tmp_path / "kvscape.json").write_text(json.dumps(content), encoding="utf-8")
    assert Artifact(tmp_path).manifest == replace(calibrated.manifest, calibration=None)


def test_what_the_model_computes_for_such_texts_is_nearer_to_its_own(
    calibrated: Artifact, library: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    source, windows = GgufSource(tiny_gguf), map_tensors(calibrated.calibration_tokens)["token_ids"]
    exact = last_states(source, windows, library, None)
    plain = convert(source, tmp_path / "plain", "q4f16_1")
    errors = [np.square(last_states(source, windows, library, one) - exact).mean() for one in (plain, calibrated)]
    assert errors[1] < 0.6 * errors[0]


def last_states(source: GgufSource, windows: Array, library: Path, artifact: Artifact | None) -> F32:
    """What the last norm leaves, with the weights of an artefact or as the source has them."""
    weights = Weights.of(source, Scheme("q0f32"))
    stages = CpuStages(library, source.config, len(windows), windows.shape[1], 2)
    stored = {} if artifact is None else map_tensors(artifact.canonical_weights)

    def matrix(name: str) -> F32:
        shape = weights.tensors[name].shape
        parts = {part: stored[f"{name}.{part}"] for part in ("q_weight", "q_scale") if f"{name}.{part}" in stored}
        return decode(parts, FORMATS["q4f16_1"], shape[1]) if parts else weights.tensors[name].values()

    x = matrix(EMBEDDING)[windows.reshape(-1)]
    for layer in range(source.config.num_hidden_layers):
        inputs = LayerInputs(weights, source.config, stages, layer, x, windows.size)
        for _ in stages.metadata.products:
            inputs.give(matrix(inputs.next_inputs()[0]))
        x, normed = inputs.next_states()
    return normed


def test_interrupted_in_a_layer_it_goes_on_there_and_ends_the_same(
    calibrated: Artifact, library: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    shutil.copy(library, tmp_path / "work")
    begun: list[int] = []

    def note(what: str, done: int, total: int) -> None:
        if what == "calibrate":
            begun.append(done)
            if len(begun) == 7:  # the third of the second layer's four products
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan(tiny_gguf, tmp_path / "work", note).convert(tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()
    artifact = plan(tiny_gguf, tmp_path / "work", note).convert(tmp_path / "artifact")
    assert begun == [0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7]
    assert artifact.canonical_weights.read_bytes() == calibrated.canonical_weights.read_bytes()


def test_what_is_made_good_of_the_inputs_error_is_the_methods_choice(
    calibrated: Artifact, library: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    shutil.copy(library, tmp_path / "work")
    other = replace(plan(tiny_gguf, tmp_path / "work"), method=replace(METHOD, corrected=0.0))
    stored = [map_tensors(one.canonical_weights) for one in (calibrated, other.convert(tmp_path / "artifact"))]
    differ = [name for name in stored[0] if stored[0][name].tobytes() != stored[1][name].tobytes()]
    assert {name.rpartition(".")[0] for name in differ} >= {
        f"model.layers.{layer}.{product}"
        for layer in range(2)
        for product in ("self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
    }


@pytest.mark.parametrize(
    ("scheme", "text", "says"),
    [
        (Scheme("q4af16_1"), TEXT, "there is nothing to calibrate: the file has its weights in q4af16_1 already"),
        (Scheme("q4f16_1"), Text("few", "Few words."), "the calibration text is too short: it has"),
    ],
)
def test_what_cannot_be_calibrated_is_one_clear_line(
    tiny_gguf: Path, tmp_path: Path, scheme: Scheme, text: Text, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        plan(tiny_gguf, tmp_path / "work", scheme=scheme, text=text).convert(tmp_path / "artifact")
