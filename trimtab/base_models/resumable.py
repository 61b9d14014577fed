"""Weights into the Hugging Face cache so that an interrupted download continues within a file.

The hub's client starts a file again from its first byte, hours for a large one. Here a file grows under a name of its own,
`<etag>.part`, and becomes the cache's blob once it is whole; the client finds it there and links it.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils._headers import build_hf_headers

from trimtab.errors import ModelRefused

AT_ONCE = 4
"""Files downloaded at a time."""
SHA256 = 64
"""Length of the hash that the hub gives large files as their ETag."""


def fetch_files(repository: str, commit: str, files: Iterable[str]) -> None:
    """Download files of a repository into the cache's blobs. Raises the hub's errors, and `ModelRefused` for damage."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for done in [threads.submit(_fetch, repository, commit, file) for file in files]:
            done.result()


def _fetch(repository: str, commit: str, file: str) -> None:
    url = hf_hub_url(repository, file, revision=commit)
    known = get_hf_file_metadata(url)
    folder = repo_folder_name(repo_id=repository, repo_type="model")
    blobs = Path(constants.HF_HUB_CACHE, folder, "blobs")
    if known.etag is None or known.size is None or (blobs / known.etag).exists():
        return
    blobs.mkdir(parents=True, exist_ok=True)
    part = blobs / f"{known.etag}.part"
    with part.open("ab") as growing:
        fcntl.flock(growing, fcntl.LOCK_EX)  # freed by the kernel if this process dies
        if (blobs / known.etag).exists():
            return
        http_get(
            url,
            growing,
            resume_size=growing.tell(),
            headers=build_hf_headers(),
            expected_size=known.size,
            displayed_filename=file,
        )
    if len(known.etag) == SHA256 and _sha256(part) != known.etag:
        part.unlink()
        raise ModelRefused("model", f"{file} of {repository} arrived damaged", "the same command again")
    part.rename(blobs / known.etag)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
