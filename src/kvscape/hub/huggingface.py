"""A model of the Hugging Face hub, kept in ``huggingface_hub``'s own layout inside our cache."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import (
    DryRunFileInfo,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    DryRunError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils.tqdm import tqdm

from kvscape.errors import HubError
from kvscape.hub.cache import cache_dir, cannot_write, make_folder
from kvscape.hub.check import Check
from kvscape.hub.first_bytes import first_bytes
from kvscape.hub.progress import Progress
from kvscape.hub.resumed import LARGE_BYTES, download_large
from kvscape.hub.watch import watched

_INDEX = "model.safetensors.index.json"
_MLC_TABLES = ("tensor-cache.json", "ndarray-cache.json")
# What says what a model is: no PyTorch pickles, no pictures.
_TEXTS = (
    "config.json",
    "generation_config.json",
    "mlc-chat-config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    _INDEX,
    *_MLC_TABLES,
)
_UNREACHED = ("the hub cannot be reached and the cache does not hold it", "check the network")
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$", re.ASCII)
_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>.+?))?(/(?P<file>[^@]+\.gguf))?", re.ASCII)


@dataclass(frozen=True)
class HubName:
    """``HF://org/name``, perhaps ``@revision``, perhaps ``/file.gguf``; ``kind`` is the hub's type of repository."""

    repo: str
    revision: str | None = None
    file: str | None = None
    kind: str = "model"

    @classmethod
    def parse(cls, name: str) -> "HubName":
        """Parse what follows ``HF://``. Raises HubError."""
        match = _NAME.fullmatch(name)
        if not match:
            raise HubError(f"HF://{name} is no name", "", "write HF://org/name, HF://org/name@revision or …/file.gguf")
        return cls(match["repo"], match["revision"], match["file"])

    def __str__(self) -> str:
        place = "" if self.kind == "model" else f"{self.kind}s/"
        return f"HF://{place}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def fetch_repository(name: HubName, progress: Progress, check: Check) -> Path:
    """Return the folder of the repository's files that a model needs, or the one GGUF file that ``name`` asks for.

    ``check`` is given the folder when all but the weights are there, of a GGUF file its beginning: what it raises is
    raised before the rest is downloaded. Without a network what an earlier run downloaded is used. Raises HubError.
    """
    if name.file:
        _check_head(name, name.file, check)
        # Of a model that is split all parts, "[" and its like being no patterns here.
        files = _PART.sub(r"-*-of-\1.gguf", escape(name.file))
        folder = _snapshot(name, [files], f"downloading {name}", progress)
        if not (folder / name.file).is_file():
            raise _no_file(name, name.file)
        return folder / name.file
    folder = _snapshot(name, _TEXTS, f"reading {name}", progress)
    check(folder)
    # The commit of the texts: a branch may move meanwhile.
    folder = _snapshot(
        replace(name, revision=folder.name), weights := _weights(folder), f"downloading {name}", progress
    )
    if not any(path for pattern in weights for path in folder.glob(pattern)):
        raise HubError(f"{name} holds no safetensors", "", f"name one of its GGUF files: {name}/<file>.gguf")
    return folder


def fetch_file(name: HubName, file: str, progress: Progress) -> Path:
    """Return one file of a repository of any kind, unchecked, without a look at its other files. Raises HubError."""
    folder = make_folder(cache_dir() / "hf")
    place = {"repo_type": name.kind, "revision": name.revision}
    known = try_to_load_from_cache(name.repo, file, cache_dir=folder, **place)
    if isinstance(known, str):
        return Path(known)
    try:
        url = hf_hub_url(name.repo, file, endpoint=_endpoint(), **place)
        metadata = get_hf_file_metadata(url, headers=build_hf_headers(), endpoint=_endpoint())
        with watched(folder, f"downloading {name}", int(metadata.size or 0), progress):
            if (metadata.size or 0) >= LARGE_BYTES and metadata.commit_hash:
                download_large(name.repo, name.kind, metadata.commit_hash, [file], folder, _endpoint(), _NoBar)
            options: dict[str, Any] = {**place, "cache_dir": folder, "endpoint": _endpoint(), "tqdm_class": _NoBar}
            return Path(hf_hub_download(name.repo, file, **options))
    except HubError:
        raise
    except RemoteEntryNotFoundError:
        raise _no_file(name, file) from None
    except Exception as error:  # it passes on whatever its HTTP client of the day raises
        raise _failed(name, folder, error) from None


def _no_file(name: HubName, file: str) -> HubError:
    return HubError(f"{name} has no file {file}", "", "look at the repository's list of files")


def _endpoint() -> str | None:
    """The environment's: imported once, huggingface_hub keeps the one that it saw then."""
    return os.environ.get("HF_ENDPOINT") or None


def _check_head(name: HubName, file: str, check: Check) -> None:
    """Let ``check`` see the beginning of a GGUF file that is not there yet: it says what the model is."""
    place = make_folder(cache_dir() / "hf")
    if isinstance(try_to_load_from_cache(name.repo, file, cache_dir=place, revision=name.revision), str):
        return
    with TemporaryDirectory() as folder:
        head = Path(folder) / Path(file).name
        head.write_bytes(first_bytes(name.repo, name.revision, file))
        check(head)


def _weights(folder: Path) -> list[str]:
    """The names of the files of weights. A repository may hold them twice: once more in its author's own form."""
    if any((folder / table).exists() for table in _MLC_TABLES):
        return ["params_shard_*.bin"]
    if not (folder / _INDEX).exists():
        return ["model.safetensors"]
    try:
        places = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ["model*.safetensors"]  # what is wrong with it is for the reader to say
    return sorted({place for place in places if isinstance(place, str)})


def _snapshot(name: HubName, files: Iterable[str], what: str, progress: Progress) -> Path:
    folder = make_folder(cache_dir() / "hf")
    options: dict[str, Any] = {
        "repo_type": name.kind,
        "revision": name.revision,
        "cache_dir": folder,
        "endpoint": _endpoint(),
        "allow_patterns": list(files),
        "tqdm_class": _NoBar,
    }
    try:
        missing = _missing(name, options)
        if not missing:
            return Path(snapshot_download(name.repo, **options))
        with watched(folder, what, sum(int(file.file_size or 0) for file in missing), progress):
            large = [file.filename for file in missing if (file.file_size or 0) >= LARGE_BYTES]
            if large:
                commit = missing[0].commit_hash
                download_large(name.repo, name.kind, commit, large, folder, options["endpoint"], _NoBar)
            return Path(snapshot_download(name.repo, **options))
    except HubError:
        raise
    except Exception as error:  # it passes on whatever its HTTP client of the day raises
        raise _failed(name, folder, error) from None


def _missing(name: HubName, options: dict[str, Any]) -> list[DryRunFileInfo]:
    """Return the files that must be downloaded; none too where the hub cannot be reached and the cache must do."""
    try:
        files = snapshot_download(name.repo, dry_run=True, **options)
    except DryRunError:
        return []
    return [file for file in files if file.will_download]


class _NoBar(tqdm):
    """Progress is shown by ours."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "disable": True})  # type: ignore[no-untyped-call]


def _failed(name: HubName, folder: Path, error: Exception) -> HubError:
    reasons: tuple[tuple[type[Exception], str, str], ...] = (
        (GatedRepoError, "it asks for your consent", "accept its terms on its page and set HF_TOKEN"),
        (RepositoryNotFoundError, "there is no such repository, or it is private", "check the name, or set HF_TOKEN"),
        (RevisionNotFoundError, "there is no such revision", "check what follows the @"),
        (LocalEntryNotFoundError, *_UNREACHED),
    )
    for kind, why, do in reasons:
        if isinstance(error, kind):
            return HubError(f"cannot download {name}", why, do)
    if type(error).__name__ in ("ConnectError", "ConnectTimeout"):
        return HubError(f"cannot download {name}", *_UNREACHED)
    if type(error) in (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError):
        return cannot_write(folder, error)  # type: ignore[arg-type]
    return HubError(f"cannot download {name}", f"{type(error).__name__}: {error}", "check the network, then try again")
