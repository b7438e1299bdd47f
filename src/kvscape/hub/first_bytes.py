"""The beginning of a file of the Hugging Face hub."""

import os

from huggingface_hub import hf_hub_url
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import get_session

HEAD_BYTES = 1 << 16


def first_bytes(repo: str, revision: str | None, name: str) -> bytes:
    """Return the first 64 KB of a file, or none where it cannot be had: the download will say why."""
    url = hf_hub_url(repo, name, revision=revision, endpoint=os.environ.get("HF_ENDPOINT") or None)
    headers = {**build_hf_headers(), "Range": f"bytes=0-{HEAD_BYTES - 1}"}
    try:
        with get_session().stream("GET", url, headers=headers, follow_redirects=True) as response:
            if response.status_code not in (200, 206):
                return b""
            return next(response.iter_bytes(HEAD_BYTES), b"")
    except Exception:  # whatever the HTTP client of the day raises
        return b""
