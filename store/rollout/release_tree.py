"""What each release was made from, so that releases can be shown as a tree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from store.db.database import Store
from store.db.record import Record
from store.db.rows import fetch_all
from store.rollout import adapters, releases
from store.rollout.releases import Release

Made = Literal["base", "prompt", "training", "blend"]


@dataclass(frozen=True, slots=True)
class Branch(Record):
    """A release, how it was made, and from which releases; `parents` is empty where it stands on the base model."""

    release: str
    made_by: Made
    parents: list[str]


def branches(db: Store, deployment: str | None = None) -> list[Branch]:
    """Return the releases, of one deployment or of all, oldest first; a parent is always older.

    A release with the adapter of an older one differs by prompt or sampling: that one is its parent. Another adapter was
    trained from that of its parent, or combined from those of several.
    """
    everything = sorted(releases.list_all(db), key=lambda release: (release.created_at, release.id))
    started = {adapter.id: adapter.start_adapter for adapter in adapters.list_all(db)}
    blended: dict[str, list[str]] = {}
    for row in fetch_all(db.read(), "select adapter, parent from adapter_parents order by adapter, place"):
        blended.setdefault(row["adapter"], []).append(row["parent"])
    found = []
    for place, release in enumerate(everything):
        if deployment in (None, release.deployment):
            found.append(_branch(release, everything[:place], started, blended))
    return found


def _branch(
    release: Release, older: list[Release], started: dict[str, str | None], blended: dict[str, list[str]]
) -> Branch:
    same = _newest(older, release.adapter, release)
    if same is not None:
        return Branch(release.ref, "prompt", [same.ref])
    if release.adapter is None:
        return Branch(release.ref, "base", [])
    combined = blended.get(release.adapter)
    from_adapters: Iterable[str | None] = combined or [started.get(release.adapter)]
    parents = [found.ref for adapter in from_adapters if (found := _newest(older, adapter, release))]
    return Branch(release.ref, "blend" if combined else "training", list(dict.fromkeys(parents)))


def _newest(older: list[Release], adapter: str | None, child: Release) -> Release | None:
    """Return the newest older release with an adapter (None: the base alone) on the same base model.

    One of the same deployment comes before the others.
    """
    alike = [row for row in older if row.adapter == adapter and row.base == child.base]
    own = [row for row in alike if row.deployment == child.deployment]
    return next(reversed(own or (alike if adapter else [])), None)
