"""What the Hugging Face hub says of a repository, and its files in the local cache; failures in one sentence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from trimtab.base_models.local import EXCLUDED, PATTERNS, snapshot
from trimtab.base_models.resumable import fetch_files
from trimtab.errors import ModelRefused

ACCEPTED = "a hub id such as organisation/name, a Hugging Face directory, or a .gguf file"
WEIGHTS = "*.safetensors"
ROOM = 1.05
"""Free disk space over the bytes to download."""


@dataclass(frozen=True)
class Repository:
    """A repository at one commit: sizes in bytes of the files that are wanted, by name.

    `cached` is its directory where the hub can't be reached and every file is here already.
    """

    name: str
    commit: str
    files: Mapping[str, int]
    licence: str | None
    cached: Path | None = None

    @property
    def weight_bytes(self) -> int:
        """Total size of the weights."""
        return sum(size for file, size in self.files.items() if fnmatch(file, WEIGHTS))


def look_up(name: str, revision: str | None) -> Repository:
    """Return a repository at the commit that `revision` (a commit, tag or branch) is now. Raises `ModelRefused`."""
    try:
        with explained(name, revision):
            info = HfApi().model_info(name, revision=revision, files_metadata=True)
    except _Unreachable:
        if cached := snapshot(name, revision):
            return Repository(name, cached.name, _sizes(cached), None, cached)
        raise
    files = {found.rfilename: found.size or 0 for found in info.siblings or ()}
    wanted = {
        file: size
        for file, size in files.items()
        if any(fnmatch(file, pattern) for pattern in PATTERNS)
        and not any(fnmatch(file, pattern) for pattern in EXCLUDED)
    }
    if "config.json" not in wanted:
        raise ModelRefused("model", f"{name} has no config.json, so it is no transformers model", ACCEPTED)
    if not any(fnmatch(file, WEIGHTS) for file in wanted):
        other = next((file for file in files if file.endswith(".gguf")), None)
        hint = f"; {other} of it can be downloaded and given as a file" if other else ""
        raise ModelRefused(
            "model", f"{name} has no safetensors weights{hint}", "a repository with *.safetensors"
        )
    tags = [tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")]
    return Repository(name, str(info.sha), wanted, tags[0] if tags else None)


def fetch_small(repository: Repository) -> Path:
    """Download everything but the weights; return the directory. Raises `ModelRefused`."""
    if repository.cached is not None:
        return repository.cached
    with explained(repository.name, repository.commit), without_bars():
        return Path(
            snapshot_download(
                repository.name,
                revision=repository.commit,
                allow_patterns=[pattern for pattern in PATTERNS if pattern != WEIGHTS],
                ignore_patterns=list(EXCLUDED),
            )
        )


def fetch(name: str, revision: str | None) -> Path:
    """Download a revision, continuing what an interrupted download left; return its directory. Raises `ModelRefused`."""
    repository = look_up(name, revision)
    if repository.cached is not None:
        return repository.cached
    with explained(name, revision):
        fetch_files(name, repository.commit, [file for file in repository.files if fnmatch(file, WEIGHTS)])
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(PATTERNS),
                ignore_patterns=list(EXCLUDED),
            )
        )


def require_room(repository: Repository) -> None:
    """Raise `ModelRefused` where the disk of the cache has no room for what is still to be downloaded."""
    missing = sum(
        size
        for file, size in repository.files.items()
        if not isinstance(try_to_load_from_cache(repository.name, file, revision=repository.commit), str)
    )
    directory = Path(constants.HF_HUB_CACHE)
    require_free(directory, int(missing * ROOM), "set HF_HOME to a directory on a larger disk")


def require_free(directory: Path, needed: int, hint: str) -> None:
    """Raise `ModelRefused` where the disk of `directory` has less than `needed` bytes free."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ModelRefused(
            "model",
            f"{directory} has {free / 1e9:.1f} GB free and {needed / 1e9:.1f} GB are needed; free some, or {hint}",
            "a model that fits the disk",
        )


class _Unreachable(ModelRefused):
    """The hub did not answer."""


@contextmanager
def explained(name: str, revision: str | None) -> Iterator[None]:
    """Raise the failures of the hub's client as `ModelRefused`, one sentence each."""
    where = f"{constants.ENDPOINT}/{name}"
    token = "the token in HF_TOKEN" if os.environ.get("HF_TOKEN") else "no token: HF_TOKEN is not set"
    try:
        yield
    except GatedRepoError as error:
        raise ModelRefused(
            "model",
            f"{name} is gated: accept its conditions at {where} and set HF_TOKEN to a token of that account ({token})",
            ACCEPTED,
        ) from error
    except RevisionNotFoundError as error:
        raise ModelRefused(
            "revision", f"{name} has no revision {revision!r}", "a commit, tag or branch of it"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelRefused(
            "model", f"there is no {name} at {constants.ENDPOINT}, or it is private ({token})", ACCEPTED
        ) from error
    except HFValidationError as error:
        raise ModelRefused("model", f"{name!r} is neither a path here nor a hub id", ACCEPTED) from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, httpx2.TransportError) as error:
        offline = (
            "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} does not answer"
        )
        raise _Unreachable(
            "model",
            f"{name} is not on this disk and {offline}",
            "a hub id once the hub can be reached, or a directory",
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise ModelRefused(
            "model", f"{constants.ENDPOINT} answers {status} for {name} ({token}); try again later", ACCEPTED
        ) from error


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep the hub's client from drawing progress bars of its own."""
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _sizes(directory: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in directory.iterdir() if file.is_file()}
