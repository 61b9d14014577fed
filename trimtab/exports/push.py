"""An exported folder as a repository of a hub: in one commit, private unless said otherwise, over nothing unasked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from trimtab.base_models.hub import without_bars
from trimtab.errors import ExportRefused

FIELD = "--push"
KEPT = (".gitattributes",)
"""Files that a hub makes by itself, which neither fill a repository nor are deleted."""
NO_ACCESS, CONFLICTS = (401, 403, 404), (409, 412)


@dataclass(frozen=True)
class Target:
    """A repository as it was found: its last commit and files, None and none where it is yet to be made."""

    name: str
    public: bool = False
    commit: str | None = None
    files: tuple[str, ...] = ()


def look_up(name: str, public: bool, overwrite: bool) -> Target:
    """Return a repository that may be pushed to. Raises `ExportRefused` where it may not, or the hub can't be asked."""
    if "/" not in name:
        raise ExportRefused(FIELD, f"{name} names no account", "organisation/name")
    if not get_token():
        raise ExportRefused(
            FIELD, "there is no token: HF_TOKEN is not set", "a token that may write, in HF_TOKEN"
        )
    with _explained(name):
        try:
            info = HfApi().model_info(name)
        except RepositoryNotFoundError:
            return Target(name, public)
    files = tuple(found.rfilename for found in info.siblings or () if found.rfilename not in KEPT)
    if not info.private and not public:
        raise ExportRefused(
            FIELD, f"{name} is there, and public", "a private or a new repository, or --public"
        )
    if files and not overwrite:
        several = f"{len(files)} files, such as {files[0]}" if len(files) > 1 else files[0]
        raise ExportRefused(
            FIELD,
            f"{name} is there, and not empty: it has {several}",
            "a new or an empty repository, or --overwrite, which replaces what it has in one commit",
        )
    return Target(name, public, info.sha, files)


def push(folder: Path, target: Target, message: str) -> str:
    """Put the files of a folder into a repository, instead of those that it had; return the commit's address.

    It is one commit, on top of the one that `look_up` found: afterwards all of it is there, or nothing has changed but that
    a new repository is there, and empty. Raises `ExportRefused`.
    """
    api = HfApi()
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationDelete(path_in_repo=name) for name in target.files if name not in files
    ]
    operations += [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in files.items()
    ]
    with _explained(target.name), without_bars():
        if target.commit is None:
            api.create_repo(target.name, private=not target.public)
        done = api.create_commit(target.name, operations, commit_message=message, parent_commit=target.commit)
    return str(done.commit_url)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Raise the failures of the hub's client as `ExportRefused`, one sentence each."""
    hub = constants.ENDPOINT
    try:
        yield
    except HFValidationError as error:
        raise ExportRefused(FIELD, f"{name!r} is no name of a repository", "organisation/name") from error
    except (OfflineModeIsEnabled, httpx2.TransportError) as error:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{hub} does not answer"
        raise ExportRefused(FIELD, f"{name} was not pushed: {why}", "a hub that can be reached") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in CONFLICTS:
            why, accepted = f"{name} has changed, or was made by others, meanwhile", "the same again"
        elif status in NO_ACCESS:
            token = "HF_TOKEN" if os.environ.get("HF_TOKEN") else "the token of `hf auth login`"
            why, accepted = f"{token} may not write to {name} at {hub} ({status})", "a token that may"
        else:
            why, accepted = f"{hub} answers {status} for {name}", "the same later"
        raise ExportRefused(FIELD, why, accepted) from error
    except ValueError as error:  # of the card's metadata, and of what the hub's storage answers
        raise ExportRefused(FIELD, f"{name} was not pushed: {error}", "files that the hub takes") from error
