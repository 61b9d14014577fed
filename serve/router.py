"""Which release answers: public model names to what an engine needs to know.

A routing table is an immutable value, built from the store and replaced whole, so a request sees one state of the
world from its start to its end. Knows no HTTP and no engine.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from serve.errors import UnknownModel
from store.db.database import Store
from store.rollout import deployments, releases
from store.rollout.releases import Release

RECENT = 5
"""How many of a deployment's newest releases are listed beside those that have traffic."""
STARTED = int(time.time())
Lane = Literal["stable", "canary", "pinned", "base"]


@dataclass(frozen=True, slots=True)
class Target:
    """What answers a request.

    `model` is the name that was asked for, `release` the public name of what answers (`assistant@3`, or the
    base model's own) and `release_id` its record id. `adapter` is the adapter's name on the engine, None for
    the plain base; `sampling` are defaults that the request's own fields override.
    """

    model: str
    deployment: str | None
    release: str
    release_id: str | None
    base: str
    adapter: str | None = None
    adapter_path: Path | None = None
    system_prompt: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    lane: Lane = "pinned"

    @property
    def engine_model(self) -> str:
        """The name under which the engine serves it."""
        return self.adapter or self.base


@dataclass(frozen=True, slots=True)
class Route:
    """A deployment's stable target and, at times, a canary with the share `weight` (0 to 1) of the traffic."""

    stable: Target
    canary: Target | None = None
    weight: float = 0.0


def share(deployment: str, sticky: str) -> float:
    """Place a sticky key in [0, 1), the same on every machine and at every time.

    A key below the canary's weight is on the canary: raising the weight moves keys onto it, and lowering it
    moves them off, but never both.
    """
    digest = hashlib.blake2b(f"{deployment}\0{sticky}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def sticky_key(
    conversation: str | None, named: object, user: str | None, key_id: str | None, name: str
) -> str:
    """Return what keeps a caller in one lane of a canary: the first of these that is there.

    `conversation` is the id that the client gave, `named` the body's `user` (anything but text is left out), `user` the
    person, `key_id` the key, `name` the principal's name. The gateway and pair mode must agree, so both ask here.
    """
    return conversation or (named if isinstance(named, str) else None) or user or key_id or name


class RoutingTable:
    """All public names and what they mean now."""

    def __init__(
        self,
        routes: Mapping[str, Route] | None = None,
        pinned: Mapping[str, Target] | None = None,
        bases: Iterable[str] = (),
        listed: Iterable[str] | None = None,
        created: Mapping[str, int] | None = None,
    ) -> None:
        """Take `listed`, the releases that `names` has (None: all), and `created`, Unix times by public name."""
        self.routes = dict(routes or {})
        self.pinned = dict(pinned or {})
        self.bases = {base: Target(base, None, base, None, base, lane="base") for base in bases}
        self.listed = list(self.pinned if listed is None else listed)
        self._created = dict(created or {})

    def resolve(self, model: str, sticky: str) -> Target:
        """Return what answers a request for `model` from the holder of the `sticky` key.

        Raises `UnknownModel`, which lists the accepted names.
        """
        if route := self.routes.get(model):
            if route.canary is not None and share(model, sticky) < route.weight:
                return route.canary
            return route.stable
        target = self.pinned.get(model) or self.bases.get(model)
        if target is None:
            raise UnknownModel(model, self.names())
        return target

    def names(self) -> list[str]:
        """Return the model names to offer: deployments, listed releases, base models; `resolve` finds every release."""
        return list(dict.fromkeys([*self.routes, *self.listed, *self.bases]))

    def created(self, name: str) -> int:
        """Return when a name came to be, in Unix seconds; of a base model, when this process began to serve it."""
        return self._created.get(name, STARTED)

    def state(self, target: Target) -> str:
        """Return what traffic a release gets from its deployment: `stable`, `canary`, or `none` unless it is named."""
        route = self.routes.get(target.deployment or "")
        if route is None:
            return "none"
        if route.stable.release == target.release:
            return "stable"
        return "canary" if route.canary is not None and route.canary.release == target.release else "none"

    def targets(self) -> Iterable[Target]:
        """Return every release's target once."""
        return self.pinned.values()

    def live(self) -> list[Target]:
        """Return the targets that deployments route to, stable and canary."""
        return [t for r in self.routes.values() for t in (r.stable, r.canary) if t is not None]


class Router:
    """Holds the current `table`; a swap is one assignment."""

    def __init__(self, table: RoutingTable | None = None) -> None:
        self.table = table or RoutingTable()

    def replace(self, table: RoutingTable) -> None:
        """Route by `table` from the next request on."""
        self.table = table


def build_table(db: Store, pool_bases: Iterable[str], adapters_dir: Path) -> RoutingTable:
    """Read the store's deployments and releases into a table. Blocking."""
    by_id: dict[str, Target] = {}
    pinned: dict[str, Target] = {}
    created: dict[str, int] = {}
    found = releases.list_all(db)
    for release in found:
        target = _target(release, adapters_dir)
        by_id[release.id] = pinned[release.ref] = target
        created[release.ref] = int(release.created_at.timestamp())
    routes = {}
    for deployment in deployments.list_all(db):
        created[deployment.name] = int(deployment.created_at.timestamp())
        stable = replace(by_id[deployment.stable], model=deployment.name, lane="stable")
        canary = by_id.get(deployment.canary or "")
        routes[deployment.name] = Route(
            stable,
            replace(canary, model=deployment.name, lane="canary") if canary else None,
            deployment.canary_weight or 0.0,
        )
    bases = list(pool_bases)
    with_traffic = {t.release_id for r in routes.values() for t in (r.stable, r.canary) if t is not None}
    listed = [
        release.ref for release in _recent(found, with_traffic) if _can_answer(by_id[release.id], bases)
    ]
    return RoutingTable(routes, pinned, bases, listed, created)


def _recent(found: Iterable[Release], with_traffic: Container[str | None]) -> list[Release]:
    """Return the releases that have traffic or are among the newest of their deployment."""
    numbers: dict[str, list[int]] = {}
    for release in found:
        numbers.setdefault(release.deployment, []).append(release.number)
    oldest = {name: min(sorted(all_of_it)[-RECENT:]) for name, all_of_it in numbers.items()}
    return [r for r in found if r.id in with_traffic or r.number >= oldest[r.deployment]]


def _can_answer(target: Target, bases: Container[str]) -> bool:
    """Whether an engine serves a release's base and its adapter was not pruned."""
    return target.base in bases and (target.adapter_path is None or target.adapter_path.is_dir())


def _target(release: Release, adapters_dir: Path) -> Target:
    return Target(
        model=release.ref,
        deployment=release.deployment,
        release=release.ref,
        release_id=release.id,
        base=release.base,
        adapter=release.adapter,
        adapter_path=adapters_dir / release.adapter if release.adapter else None,
        system_prompt=release.system_prompt,
        sampling=release.sampling,
    )
