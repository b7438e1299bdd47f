"""What is built once is used again; what is damaged is built again, or refused in one clear line."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvscape import LLM, SamplingParams
from kvscape.artifact import Artifact
from kvscape.config import BuildConfig
from kvscape.errors import ArtifactError, HubError, WeightsError
from kvscape.files import written_file
from kvscape.llm import build

GREEDY = SamplingParams(max_tokens=8, ignore_eos=True)


@dataclass
class Home:
    """A cache of one test's own, with the tiny model built; ``compiled`` lists the libraries compiled since."""

    path: Path
    model: Path
    folder: Path
    whole_library: Path
    token_ids: tuple[int, ...]
    compiled: list[Path]
    opened: Callable[..., LLM]

    @property
    def artifact(self) -> Artifact:
        return Artifact(self.folder)

    @property
    def library(self) -> Path:
        (path,) = (self.folder / "lib").glob("*.tar")
        return path

    @property
    def packed(self) -> Path:
        (path,) = (self.folder / "weights").glob("packed-*.safetensors")
        return path

    def open(self, **fields: object) -> LLM:
        return self.opened(self.model, self.path, **fields)

    def answers(self, **fields: object) -> bool:
        """Whether the model, opened again, says what it said before."""
        with self.open(**fields) as llm:
            return llm.generate("the thing", GREEDY).token_ids == self.token_ids

    def files(self) -> list[str]:
        found = (path.relative_to(self.path) for path in self.path.rglob("*") if path.name != ".lock")
        return sorted(str(path) for path in found if path.parts[0] != "known")


@pytest.fixture
def home(open_llm: Callable[..., LLM], tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    with open_llm(tiny_gguf) as llm:
        token_ids, whole = llm.generate("the thing", GREEDY).token_ids, llm.artifact.folder
        library, packed = llm.artifact.library(llm.metadata.key), llm.artifact.packed_weights(llm.metadata.layout)
    folder = tmp_path / "home" / "artifacts" / whole.name
    shutil.copytree(whole, folder, ignore=lambda _, names: others(names, library, packed))
    compiled: list[Path] = []

    def compile_in_child(
        _artifact: Path, _target: str, _activation: str, _overrides: object, output: Path, _kv: str
    ) -> None:
        compiled.append(output)
        with written_file(output) as temporary:
            shutil.copyfile(library, temporary)

    monkeypatch.setattr(build, "compile_in_child", compile_in_child)
    return Home(tmp_path / "home", tiny_gguf, folder, library, token_ids, compiled, open_llm)


def others(names: list[str], *mine: Path) -> list[str]:
    """What other tests have compiled and packed of the same model."""
    built = [name for name in names if name.endswith(".tar") or name.startswith("packed-")]
    return [name for name in built if name not in {path.name for path in mine}]


def cut(path: Path, keep: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def test_the_cache_is_under_kvscape_home(home: Home) -> None:
    with home.open() as llm:
        assert llm.artifact.folder == home.folder


def test_a_second_start_builds_nothing(home: Home) -> None:
    before = {path: path.stat().st_mtime_ns for path in home.path.rglob("*") if path.is_file() and path.name != ".lock"}
    assert home.answers()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert home.compiled == []


def test_redo_compiles_once_more(home: Home) -> None:
    assert home.answers(jit="redo")
    assert home.compiled == [home.library]


def test_off_never_compiles(home: Home) -> None:
    assert home.answers(jit="off")
    home.library.unlink()
    with pytest.raises(ArtifactError, match=r"no library at .*: --jit off forbids compiling; run 'kvscape compile'"):
        home.open(jit="off")
    assert home.compiled == []


def test_another_activation_is_another_library(home: Home) -> None:
    with home.open(activation="float32"):
        assert [path.parent for path in home.compiled] == [home.folder / "lib"]
        assert home.compiled[0].name != home.whole_library.name


def test_a_library_for_gpus_that_others_have_is_compiled_without_one(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVSCAPE_HOME", str(home.path))
    monkeypatch.setattr("kvscape.llm.build.library_key", lambda *facts: f"{facts[2].name}-key")
    built = build.build_artifact(BuildConfig(str(home.model), device="cuda:sm_90"), kv_dtype="f16")
    assert home.compiled == [built.library] and built.library.name == "sm_90-key.tar"
    assert not built.packed_weights.exists()


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
def test_packed_weights_that_were_cut_are_packed_again(home: Home, keep: float) -> None:
    whole = home.packed.read_bytes()
    cut(home.packed, keep)
    assert home.answers()
    assert home.packed.read_bytes() == whole


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9])
def test_a_library_that_was_cut_is_compiled_again(home: Home, keep: float) -> None:
    cut(home.library, keep)
    assert home.answers()
    assert home.compiled == [home.library]


def test_a_library_that_was_cut_is_refused_where_compiling_is_forbidden(home: Home) -> None:
    cut(home.library)
    with pytest.raises(ArtifactError, match=r"cannot load .*; compile the model again"):
        home.open(jit="off")


def test_canonical_weights_that_were_cut_are_converted_again(home: Home) -> None:
    whole = home.artifact.canonical_weights.read_bytes()
    cut(home.artifact.canonical_weights)
    assert home.answers()
    assert home.artifact.canonical_weights.read_bytes() == whole


@pytest.mark.parametrize("name", ["kvscape.json", "tokenizer.json"])
def test_a_lost_file_is_written_again(home: Home, name: str) -> None:
    whole = (home.folder / name).read_bytes()
    (home.folder / name).unlink()
    assert home.answers()
    assert (home.folder / name).read_bytes() == whole


@pytest.mark.parametrize("damage", ["cut", "version", "no tensors", "a list"])
def test_a_damaged_manifest_is_written_again_in_the_cache_and_refused_elsewhere(home: Home, damage: str) -> None:
    manifest = home.folder / "kvscape.json"
    content = json.loads(manifest.read_text())
    damaged: dict[str, object] = {
        "version": {**content, "kvscape_version": "0.0.0"},
        "no tensors": {**content, "tensors": None},
        "a list": [content],
    }
    manifest.write_text(json.dumps(damaged[damage]) if damage in damaged else manifest.read_text()[:100])
    with pytest.raises(ArtifactError, match=r"kvscape\.json.*; convert the model again with 'kvscape convert'"):
        home.opened(home.folder, home.path)
    assert home.answers()
    assert json.loads(manifest.read_text()) == content


def test_a_converted_folder_is_a_model(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.folder, tmp_path / "own", ignore=shutil.ignore_patterns("packed-*", "lib"))
    with home.opened(tmp_path / "own", home.path) as llm:
        assert llm.generate("the thing", GREEDY).token_ids == home.token_ids
    with pytest.raises(ArtifactError, match=r"holds auto weights .*: q4f16_1 was asked for"):
        home.opened(tmp_path / "own", home.path, quantization="q4f16_1")
    (tmp_path / "own" / "tokenizer.json").write_text("{")
    with pytest.raises(Exception, match="the tokenizer cannot be read"):
        home.opened(tmp_path / "own", home.path)
    cut(tmp_path / "own" / "weights" / "canonical.safetensors")
    next((tmp_path / "own" / "weights").glob("packed-*")).unlink()
    with pytest.raises(ArtifactError, match=r"canonical\.safetensors is damaged"):
        home.opened(tmp_path / "own", home.path)


def test_a_folder_without_a_model(home: Home, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"it holds no config\.json, no mlc-chat-config\.json and no \.gguf file"):
        home.opened(tmp_path / "empty", home.path)


def test_a_cache_that_cannot_be_written(home: Home, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with pytest.raises(HubError, match=r"cannot write the cache .*; set KVSCAPE_HOME"):
        home.opened(home.model, tmp_path / "plain" / "home")


KILLED_CONVERTING = """
import os, signal, sys
from kvscape.config import BuildConfig
from kvscape.llm.build import find_artifact

def kill_in_the_middle(label, done, total):
    if total and done > total // 2:
        os.kill(os.getpid(), signal.SIGKILL)

find_artifact(BuildConfig(sys.argv[1]), kill_in_the_middle)
"""
KILLED_WRITING = """
import os, signal, sys
from pathlib import Path
from kvscape.files import written_file

with written_file(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(script: str, argument: Path, home: Path) -> None:
    environment = {**os.environ, "KVSCAPE_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", script, str(argument)], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def test_a_conversion_that_was_killed_is_done_again_and_leaves_nothing(home: Home) -> None:
    whole = home.files()
    shutil.rmtree(home.folder)
    killed(KILLED_CONVERTING, home.model, home.path)
    assert home.files() and not home.folder.exists()
    assert home.answers()
    assert home.files() == whole


def test_a_write_that_was_killed_is_done_again_and_leaves_nothing(home: Home) -> None:
    whole = home.files()
    for path in (home.library, home.packed):
        path.unlink()
        killed(KILLED_WRITING, path, home.path)
        assert home.files() != whole and not path.exists()
        assert home.answers()
        assert home.files() == whole


BUILDING = """
import sys
from kvscape.config import BuildConfig
from kvscape.llm.build import build_artifact

done = set()
build_artifact(
    BuildConfig(sys.argv[1]),
    kv_dtype="k=f16,v=int8",  # its library is the quickest to compile
    progress=lambda label, *_: done.add(label.split()[0]),
)
print(*sorted(done))
"""


def test_of_two_processes_one_builds_and_the_other_waits(tiny_gguf: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "KVSCAPE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", BUILDING, str(tiny_gguf)]
    children = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [child.communicate() for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    assert sorted(" ".join(out for out, _ in outputs).split()) == ["compile", "convert"]
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]
