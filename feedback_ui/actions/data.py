"""Training data: what there is, and importing more."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve.client import ApiError, PlatformClient

# Rows sent in one request: large enough to be quick, small enough to show progress.
BATCH = 2_000


@dataclass
class Imported:
    """What an import did so far; refused rows carry their number in the file (from 1) and the reason."""

    total: int
    sent: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Holdings:
    """The newest pairs and demonstrations, and the counts that the platform keeps."""

    pairs: list[dict[str, Any]]
    demonstrations: list[dict[str, Any]]
    pair_stats: dict[str, Any]
    demonstration_stats: dict[str, Any]
    snapshots: list[dict[str, Any]]
    raters: list[dict[str, Any]]
    agreement: dict[str, Any]


async def holdings(client: PlatformClient, limit: int = 25) -> Holdings:
    """What the Data tab shows."""
    return Holdings(
        list(await client.pairs_list(limit=limit) or ()),
        list(await client.demonstrations_list(limit=limit) or ()),
        dict(await _offered(client, "/api/pairs/stats") or {}),
        dict(await _offered(client, "/api/demonstrations/stats") or {}),
        list(await _offered(client, "/api/snapshots") or ()),
        list(await _offered(client, "/api/raters") or ()),
        dict(await _offered(client, "/api/raters/agreement") or {}),
    )


async def _offered(client: PlatformClient, path: str) -> Any:
    """The answer of a route that a platform may not have; None where it is missing."""
    try:
        return await client.request("GET", path)
    except ApiError as error:
        if error.status != 404:
            raise
        return None


def read_rows(path: Path) -> list[Any]:
    """Read a file of JSON lines or one JSON array.

    Raises `ApiError` (422) naming the line that is no JSON: nothing is imported from a file that can't be read.
    """
    text = path.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except ValueError as error:
            raise _unreadable(f"it is no JSON array: {error}") from error
        return list(rows)
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise _unreadable(f"line {number} is no JSON: {error}") from error
    if not rows:
        raise _unreadable("it is empty")
    return rows


def _unreadable(why: str) -> ApiError:
    return ApiError(
        422, "Invalid", f"The file can't be read: {why}", accepted="JSON lines, or one JSON array"
    )


async def import_rows(client: PlatformClient, kind: str, rows: list[Any], so_far: Imported) -> None:
    """Send the next batch of `rows` and add its result to `so_far`; call until `so_far.sent` is the total."""
    batch = rows[so_far.sent : so_far.sent + BATCH]
    send = client.pairs_import if kind == "pairs" else client.demonstrations_import
    answer = await send(batch)
    so_far.accepted += answer["accepted"]
    so_far.duplicates += answer["duplicates"]
    so_far.rejected += [{**row, "row": row["row"] + so_far.sent} for row in answer["rejected"]]
    so_far.sent += len(batch)
