"""What a client sends to the hub of `tests.support.hub`: new repositories, large files, commits."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.hub import Hub

LARGE = (".safetensors", ".gguf")


def take(hub: Hub, path: str, body: bytes) -> tuple[int, Any]:
    """Return status and answer of a request that writes; no answer means the status alone."""
    if path.startswith("/objects/"):
        hub.objects[path.removeprefix("/objects/")] = body
        return 200, {}
    if path.endswith("/commit/main"):
        return _commit(hub, path.removeprefix("/api/models/").removesuffix("/commit/main"), body)
    said = json.loads(body)
    if path == "/api/validate-yaml":
        return 200, {"errors": [], "warnings": []}
    if path == "/api/repos/create":
        return _create(hub, f"{said['organization']}/{said['name']}", said["visibility"] == "private")
    if path.endswith("/preupload/main"):
        modes = [
            (file["path"], "lfs" if file["path"].endswith(LARGE) else "regular") for file in said["files"]
        ]
        return 200, {"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes]}
    if path.endswith("/info/lfs/objects/batch"):
        return 200, {"transfer": "basic", "objects": [_upload(hub, one) for one in said["objects"]]}
    return 404, None


def commit_of(directory: Path) -> str:
    """Return a commit's id, which follows from the content."""
    digest = hashlib.sha1()
    for file in sorted(directory.rglob("*")):
        if file.is_file():
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _create(hub: Hub, name: str, private: bool) -> tuple[int, Any]:
    if name in hub.repositories:
        return 409, None
    folder = hub.root / name
    folder.mkdir(parents=True)
    (folder / ".gitattributes").write_text("*.gguf filter=lfs\n")
    hub.add(name, folder, private=private)
    return 200, {"url": f"{hub.url}/{name}"}


def _upload(hub: Hub, one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "actions": {"upload": {"href": f"{hub.url}/objects/{one['oid']}"}}}


def _commit(hub: Hub, name: str, body: bytes) -> tuple[int, Any]:
    """Carry a commit out whole, or nothing of it."""
    served = hub.repositories[name]
    lines = [(line["key"], line["value"]) for line in map(json.loads, body.splitlines())]
    head = dict(lines)["header"]
    if head.get("parentCommit", served.commit) != served.commit:
        return 412, None
    for key, value in lines[1:]:
        file = served.directory / value["path"]
        if key == "deletedFile":
            file.unlink()
        else:
            content = base64.b64decode(value["content"]) if key == "file" else hub.objects[value["oid"]]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    served.log.append(head["summary"])
    served.commit = served.branches["main"] = commit_of(served.directory)
    url = f"{hub.url}/{name}/commit/{served.commit}"
    return 200, {"success": True, "commitOid": served.commit, "commitUrl": url}
