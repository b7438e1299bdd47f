"""A model of the Hugging Face hub, kept in ``huggingface_hub``'s own layout inside our cache."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    DryRunError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import tqdm

from kvscape.errors import HubError
from kvscape.hub.cache import cache_dir, cannot_write, make_folder
from kvscape.hub.progress import Progress
from kvscape.hub.watch import watched

# What a model needs to run: no PyTorch pickles, no other frameworks' weights, no pictures.
_FOLDER_FILES = (
    "config.json",
    "generation_config.json",
    "mlc-chat-config.json",
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "chat_template.jinja",
    "*.safetensors",
    "*.safetensors.index.json",
    "tensor-cache.json",
    "ndarray-cache.json",
    "params_shard_*.bin",
)
_WEIGHTS = ("*.safetensors", "params_shard_*.bin")
_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>.+?))?(/(?P<file>[^@]+\.gguf))?", re.ASCII)


@dataclass(frozen=True)
class HubName:
    """``HF://org/name``, perhaps ``@revision``, perhaps ``/file.gguf``."""

    repo: str
    revision: str | None = None
    file: str | None = None

    @classmethod
    def parse(cls, name: str) -> "HubName":
        """Parse what follows ``HF://``. Raises HubError."""
        match = _NAME.fullmatch(name)
        if not match:
            raise HubError(f"HF://{name} is no name", "", "write HF://org/name, HF://org/name@revision or …/file.gguf")
        return cls(match["repo"], match["revision"], match["file"])

    def __str__(self) -> str:
        return f"HF://{self.repo}" + (f"@{self.revision}" if self.revision else "")


def fetch_repository(name: HubName, progress: Progress) -> Path:
    """Return the folder of the repository's files that a model needs, or the one GGUF file that ``name`` asks for.

    Without a network what an earlier run downloaded is used. Raises HubError.
    """
    folder = _snapshot(name, progress)
    if name.file:
        if not (folder / name.file).is_file():
            raise HubError(f"{name} has no file {name.file}", "", "look at the repository's list of files")
        return folder / name.file
    if not any(path for pattern in _WEIGHTS for path in folder.glob(pattern)):
        raise HubError(f"{name} holds no safetensors", "", f"name one of its GGUF files: {name}/<file>.gguf")
    return folder


def _snapshot(name: HubName, progress: Progress) -> Path:
    folder = make_folder(cache_dir() / "hf")
    # Imported once, huggingface_hub keeps the endpoint it saw then: the environment is asked again.
    options: dict[str, Any] = {
        "revision": name.revision,
        "cache_dir": folder,
        "endpoint": os.environ.get("HF_ENDPOINT") or None,
        "allow_patterns": [name.file] if name.file else list(_FOLDER_FILES),
        "tqdm_class": _NoBar,
    }
    try:
        missing_bytes = _missing_bytes(name, options)
        if not missing_bytes:
            return Path(snapshot_download(name.repo, **options))
        with watched(folder, f"downloading {name}", missing_bytes, progress):
            return Path(snapshot_download(name.repo, **options))
    except Exception as error:  # it passes on whatever its HTTP client of the day raises
        raise _failed(name, folder, error) from None


def _missing_bytes(name: HubName, options: dict[str, Any]) -> int:
    """Return how many bytes must be downloaded; 0 too where the hub cannot be reached and the cache must do."""
    try:
        files = snapshot_download(name.repo, dry_run=True, **options)
    except DryRunError:
        return 0
    return sum(int(file.file_size) for file in files if file.will_download)


class _NoBar(tqdm):
    """Progress is shown by ours."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "disable": True})  # type: ignore[no-untyped-call]


def _failed(name: HubName, folder: Path, error: Exception) -> HubError:
    reasons: tuple[tuple[type[Exception], str, str], ...] = (
        (GatedRepoError, "it asks for your consent", "accept its terms on its page and set HF_TOKEN"),
        (RepositoryNotFoundError, "there is no such repository, or it is private", "check the name, or set HF_TOKEN"),
        (RevisionNotFoundError, "there is no such revision", "check what follows the @"),
        (LocalEntryNotFoundError, "the hub cannot be reached and the cache does not hold it", "check the network"),
    )
    for kind, why, do in reasons:
        if isinstance(error, kind):
            return HubError(f"cannot download {name}", why, do)
    if type(error) in (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError):
        return cannot_write(folder, error)  # type: ignore[arg-type]
    return HubError(f"cannot download {name}", f"{type(error).__name__}: {error}", "check the network, then try again")
