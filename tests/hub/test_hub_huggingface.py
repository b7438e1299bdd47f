"""A model of the Hugging Face hub: huggingface_hub runs for real, against a server on this machine."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_server import HubServer, commit_hash, served
from kvscape.errors import HubError, UnsupportedModelError
from kvscape.hub import resolve
from kvscape.hub.huggingface import HubName

MAIN = {
    "config.json": b"{}",
    "tokenizer.json": b"[]",
    "model.safetensors": b"weights" * 1000,
    "pytorch_model.bin": b"pickle",
    "README.md": b"words",
    "picture.png": b"png",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub whose repository has a main branch in safetensors, an old version, and a branch of GGUF files."""
    old = {**MAIN, "model.safetensors": b"old weights"}
    ggufs = {"a.Q4_0.gguf": b"GGUF a", "b.Q8_0.gguf": b"GGUF b", "config.json": b"{}"}
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "cache"))
    with served(HubServer({"main": MAIN, "v1": old, "gguf": ggufs})) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def test_only_what_a_model_needs_is_downloaded(hub: HubServer, tmp_path: Path) -> None:
    folder = resolve("HF://org/name")
    assert folder.is_relative_to(tmp_path / "cache" / "hf")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: MAIN[name] for name in ("config.json", "tokenizer.json", "model.safetensors")
    }


def test_a_revision_is_pinned_by_its_name_or_commit(hub: HubServer) -> None:
    assert (resolve("HF://org/name@v1") / "model.safetensors").read_bytes() == b"old weights"
    assert (resolve(f"hf://org/name@{commit_hash('v1')}") / "model.safetensors").read_bytes() == b"old weights"
    assert (resolve("HF://org/name") / "model.safetensors").read_bytes() == MAIN["model.safetensors"]


def test_one_gguf_file_is_asked_for_by_name(hub: HubServer) -> None:
    path = resolve("HF://org/name@gguf/b.Q8_0.gguf")
    assert path.read_bytes() == b"GGUF b"
    assert [entry.name for entry in path.parent.iterdir()] == ["b.Q8_0.gguf"]


def test_progress_ends_with_the_bytes_that_were_missing(hub: HubServer) -> None:
    seen: list[tuple[str, int, int | None]] = []
    resolve("HF://org/name", lambda what, done, total: seen.append((what, done, total)))
    assert ("reading HF://org/name", 4, 4) in seen
    assert seen[-1] == ("downloading HF://org/name", 7000, 7000)
    seen.clear()
    resolve("HF://org/name", lambda what, done, total: seen.append((what, done, total)))
    assert seen == []


def test_a_pinned_commit_in_the_cache_asks_nothing(hub: HubServer) -> None:
    name = f"HF://org/name@{commit_hash('v1')}"
    folder = resolve(name)
    hub.requests.clear()
    assert resolve(name) == folder
    assert hub.requests == []


def test_what_is_no_model_that_runs_is_refused_before_its_weights_are_downloaded(hub: HubServer) -> None:
    def refuse(folder: Path) -> None:
        assert (folder / "config.json").read_bytes() == b"{}"
        raise UnsupportedModelError("no such architecture")

    with pytest.raises(UnsupportedModelError):
        resolve("HF://org/name", check=refuse)
    assert [request for request in hub.requests if "model.safetensors" in request] == []


def test_a_model_that_is_split_comes_whole(hub: HubServer) -> None:
    parts = {f"q4/m-0000{number}-of-00003.gguf": b"GGUF" for number in (1, 2, 3)}
    hub.commits["gguf"] |= {**parts, "q4/m-00001-of-00002.gguf": b"GGUF"}
    path = resolve("HF://org/name@gguf/q4/m-00001-of-00003.gguf")
    assert {f"q4/{part.name}" for part in path.parent.iterdir()} == parts.keys()


def test_of_a_gguf_file_the_beginning_is_looked_at_first(hub: HubServer) -> None:
    hub.commits["gguf"]["b.Q8_0.gguf"] = b"GGUF" * (1 << 16)
    seen: list[bytes] = []
    resolve("HF://org/name@gguf/b.Q8_0.gguf", check=lambda path: seen.append(path.read_bytes()))
    assert seen == [b"GGUF" * (1 << 14)]
    assert hub.ranges == ["bytes=0-65535"]
    resolve("HF://org/name@gguf/b.Q8_0.gguf", check=lambda path: seen.append(path.read_bytes()))
    assert len(seen) == 1


def test_only_the_indexs_files_are_downloaded(hub: HubServer) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    shards = {"model-1.safetensors": b"1", "model-2.safetensors": b"2", "consolidated.safetensors": b"the same again"}
    hub.commits["main"] = {"config.json": b"{}", "model.safetensors.index.json": index, **shards}
    assert sorted(path.name for path in resolve("HF://org/name").glob("*.safetensors")) == [*shards][:2]


def test_the_weights_are_asked_for_by_the_texts_commit(hub: HubServer) -> None:
    resolve("HF://org/name", check=lambda folder: hub.requests.clear())
    assert f"GET /org/name/resolve/{commit_hash('main')}/model.safetensors" in hub.requests
    assert [request for request in hub.requests if "/main" in request] == []


def test_an_mlc_repository_brings_its_shards(hub: HubServer) -> None:
    wanted = dict.fromkeys(("mlc-chat-config.json", "ndarray-cache.json", "params_shard_0.bin"), b"{}")
    hub.commits["main"] = {**wanted, "other.bin": b"1"}
    assert {path.name for path in resolve("HF://org/name").iterdir()} == wanted.keys()


LARGE = bytes(range(256)) * (24 << 12)  # 24 MB
DOWNLOAD = "from kvscape.hub import resolve; resolve('HF://org/name')"


def test_a_download_that_was_killed_goes_on(hub: HubServer, tmp_path: Path) -> None:
    hub.commits["main"] = {"config.json": b"{}", "model.safetensors": LARGE}
    hub.stalled["model.safetensors"] = 21 << 20
    process = subprocess.Popen([sys.executable, "-c", DOWNLOAD])
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size >= 20 << 20 for path in tmp_path.rglob("*.partial")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    hub.stalled.clear()
    hub.go_on.set()
    assert (resolve("HF://org/name") / "model.safetensors").read_bytes() == LARGE
    assert [int(asked.removeprefix("bytes=").rstrip("-")) for asked in hub.ranges] == [20 << 20]
    assert not list(tmp_path.rglob("*.partial"))


def test_a_file_that_is_not_what_its_hash_says_is_refused_and_brought_again(hub: HubServer, tmp_path: Path) -> None:
    hub.commits["main"] = {"config.json": b"{}", "model.safetensors": LARGE}
    resolve("HF://org/name")
    (blob,) = (path for path in tmp_path.rglob("blobs/*") if path.stat().st_size == len(LARGE))
    shutil.rmtree(tmp_path / "cache")
    blob.parent.mkdir(parents=True)
    blob.with_name(f"{blob.name}.partial").write_bytes(b"something else")
    with pytest.raises(HubError, match=r"model\.safetensors is not what the hub says it is: its sha256"):
        resolve("HF://org/name")
    assert (resolve("HF://org/name") / "model.safetensors").read_bytes() == LARGE


def test_without_network_the_cache_serves(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = resolve("HF://org/name")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert resolve("HF://org/name") == folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("HF://org/other", "cannot download HF://org/other: there is no such repository, or it is private; check"),
        ("HF://org/name@v2", "cannot download HF://org/name@v2: there is no such revision; check what follows the @"),
        ("HF://org/name@gguf", "HF://org/name@gguf holds no safetensors; name one of its GGUF files"),
        ("HF://org/name@gguf/c.gguf", "HF://org/name@gguf has no file c.gguf"),
    ],
)
def test_what_is_not_there_is_one_clear_line(hub: HubServer, name: str, message: str) -> None:
    with pytest.raises(HubError, match=message) as caught:
        resolve(name)
    assert "\n" not in str(caught.value)


def test_without_network_and_cache_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(HubError, match="the hub cannot be reached and the cache does not hold it; check the network"):
        resolve("HF://org/name")


def test_a_cache_below_a_plain_file_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain").touch()
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "plain" / "cache"))
    with pytest.raises(HubError, match="cannot write the cache"):
        resolve("HF://org/name")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/name", HubName("org/name")),
        ("org/name@v1", HubName("org/name", "v1")),
        ("org/name@refs/pr/1", HubName("org/name", "refs/pr/1")),
        ("org/name/sub/x.gguf", HubName("org/name", None, "sub/x.gguf")),
        ("org/name@v1/x.gguf", HubName("org/name", "v1", "x.gguf")),
    ],
)
def test_a_name_has_a_revision_and_a_file(text: str, name: HubName) -> None:
    assert HubName.parse(text) == name
