"""Large files of the Hugging Face hub, downloaded into its cache so that a download that was killed goes on.

huggingface_hub begins a file anew in each process. Here what has arrived stays beside the cache's content (``blobs``)
under a name made of the file's hash; the next run asks for the rest. Once whole, the file is checked, and
huggingface_hub finds it in its cache.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlparse

from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.file_download import HfFileMetadata, http_get, repo_folder_name
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils.tqdm import tqdm

from kvscape.errors import HubError
from kvscape.hub.cache import locked

LARGE_BYTES = 8 << 20
_PARTIAL = ".partial"
_SHA256 = re.compile("[0-9a-f]{64}")
_ETAG = re.compile(r"[\w.-]+", re.ASCII)


def download_large(
    repo: str, kind: str, commit: str, names: Iterable[str], cache: Path, endpoint: str | None, bars: type[tqdm]
) -> None:
    """Bring files into the cache, each going on where an earlier run stopped.

    Raises HubError for a file whose content is not what its hash says, and what huggingface_hub's client raises.
    """
    folder = cache / repo_folder_name(repo_id=repo, repo_type=kind)
    with locked(folder):
        for name in names:
            url = hf_hub_url(repo, name, repo_type=kind, revision=commit, endpoint=endpoint)
            _download(url, name, get_hf_file_metadata(url, headers=build_hf_headers(), endpoint=endpoint), folder, bars)
        for left in (folder / "blobs").glob(f"*{_PARTIAL}"):  # of versions that are not wanted any more
            left.unlink()


def _download(url: str, name: str, metadata: HfFileMetadata, folder: Path, bars: type[tqdm]) -> None:
    etag, size = metadata.etag, metadata.size
    if etag is None or not _ETAG.fullmatch(etag) or size is None:
        return  # a server that does not say what the file is: huggingface_hub brings it, without going on
    blob = folder / "blobs" / etag
    if blob.exists():
        return
    blob.parent.mkdir(parents=True, exist_ok=True)
    partial = blob.with_name(etag + _PARTIAL)
    with partial.open("ab", buffering=0) as file:
        _fetch(url, metadata, file, size, bars)
    _check(name, partial, etag)
    partial.replace(blob)


def _fetch(url: str, metadata: HfFileMetadata, file: BinaryIO, size: int, bars: type[tqdm]) -> None:
    if file.tell() > size:
        file.truncate(0)
    headers = build_hf_headers()
    if urlparse(metadata.location).netloc != urlparse(url).netloc:
        headers.pop("authorization", None)  # the content's host must not see the user's token
    http_get(metadata.location, file, resume_size=file.tell(), headers=headers, expected_size=size, tqdm_class=bars)


def _check(name: str, partial: Path, etag: str) -> None:
    """The hash of a large file is the sha256 of its content."""
    if not _SHA256.fullmatch(etag):
        return
    with partial.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == etag:
            return
    partial.unlink()
    raise HubError(f"{name} is not what the hub says it is", "its sha256 is another", "download it again")
