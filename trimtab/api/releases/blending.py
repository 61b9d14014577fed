"""A release whose adapter is combined from those of others."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from common.lora import chooses_rank, keeps_rank, prunes
from store.accounts import audit
from store.db.database import Store
from store.rollout import adapter_parents, adapters, deployments, releases
from store.rollout.adapter_parents import Parent
from store.rollout.adapters import AdapterRecord
from store.rollout.chat_template_kwargs import KEY
from store.rollout.releases import Release
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.base import Request
from trimtab.api.problems import Problem
from trimtab.api.releases.models import ReleaseView
from trimtab.api.releases.routes import views
from trimtab.api.views import release_view
from trimtab.background import call_store
from trimtab.platform import Platform
from trimtab.rollout.blending import Combination, blend

router = APIRouter(prefix="/releases", tags=["releases"])

Kind = Literal[
    "cat", "svd", "linear", "ties", "ties_svd", "dare_linear", "dare_linear_svd", "dare_ties", "dare_ties_svd",
    "magnitude_prune", "magnitude_prune_svd",
]  # fmt: skip
DENSITY = 0.5


class BlendPart(Request):
    """One release with an adapter, and how much of what its adapter does goes into the new one."""

    release: str
    weight: float = Field(ge=-10, le=10, allow_inf_nan=False, description="not 0; below it, taken away")


class BlendRequest(Request):
    """Combines the adapters of releases of one deployment, by PEFT's `add_weighted_adapter`."""

    releases: list[BlendPart] = Field(min_length=1, max_length=16)
    combination: Kind = Field(
        "cat",
        description="how, as PEFT names it; cat is exact and adds up the ranks, svd reduces to `rank`, others are rougher",
    )
    rank: int | None = Field(
        None, ge=1, le=512, description="of the svd kinds; null: the largest of the adapters"
    )
    density: float | None = Field(
        None, gt=0, le=1, description="share of values that ties, dare and magnitude_prune keep; null: 0.5"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="of what the dare kinds drop")


@router.post("/blend", status_code=201)
async def blend_releases(body: BlendRequest, platform: ThePlatform, principal: Operator) -> ReleaseView:
    """Make a release without traffic whose adapter is combined from those of others; prompt and sampling come from stable.

    The new adapter is checked, published and measured as any other. `blend` says how far its change of the weights is from
    the weighted sum (`distance`, a share of that sum's size).
    """
    parts = await call_store(platform.db, _parts, body)
    base = parts[0].base
    _check(platform, body, parts)
    combined = [(part.hash, one.weight) for part, one in zip(parts, body.releases, strict=True)]
    density = body.density or DENSITY if prunes(body.combination) else None
    combination = Combination(body.combination, body.rank, density, body.seed)
    record, facts = await blend(platform.serving, base, combined, combination, principal.name)
    release, stable = await call_store(platform.db, _record, body, record, principal.name)
    await platform.serving.refresh()
    view = (await views(platform, [release]))[0]
    from_stable = release_view(stable, {})
    names = [name for name in ("system_prompt", "sampling", KEY) if getattr(from_stable, name)]
    return view.model_copy(update={"inherited": names, "inherited_from": stable.ref, "blend": facts})


def _parts(db: Store, body: BlendRequest) -> list[AdapterRecord]:
    """Return the adapters of the releases. Raises `Problem` and `NotFound`."""
    found = [releases.get(db, one.release) for one in body.releases]
    for one, release in zip(body.releases, found, strict=True):
        if one.weight == 0:
            raise _refused("releases", f"{one.release} has weight 0", "a weight from -10 to 10 that is not 0")
        if release.adapter is None:
            raise _refused("releases", f"{one.release} has no adapter", "releases with an adapter")
        if release.deployment != found[0].deployment:
            why = f"{one.release} is of {release.deployment}, {found[0].ref} of {found[0].deployment}"
            raise _refused("releases", why, "releases of one deployment")
        if release.base != found[0].base:
            why = f"{one.release} is on {release.base}, {found[0].ref} on {found[0].base}"
            raise _refused("releases", why, "releases of one base model")
    names = [str(release.adapter) for release in found]
    if twice := next((r.ref for r in found if names.count(str(r.adapter)) > 1), None):
        raise _refused("releases", f"the adapter of {twice} is named twice", "each adapter once")
    return [adapters.get(db, name) for name in names]


def _check(platform: Platform, body: BlendRequest, parts: list[AdapterRecord]) -> None:
    """Refuse what PEFT could not combine or the engine not serve, before anything is computed. Raises `Problem`."""
    base, kind = parts[0].base, body.combination
    if base not in platform.serving.bases:
        raise _refused(
            "releases", f"base {base!r} is served by no engine", "releases of a base that is served"
        )
    for part, one in zip(parts, body.releases, strict=True):
        if not (platform.paths.adapters / part.hash).is_dir():
            raise Problem(409, f"the adapter {part.hash} of {one.release} was pruned", field="releases")
    if body.rank is not None and not chooses_rank(kind):
        raise _refused("rank", f"the combination {kind} takes no rank", "rank with svd kinds alone")
    if body.density is not None and not prunes(kind):
        raise _refused(
            "density", f"the combination {kind} prunes nothing", "density with ties, dare and magnitude_prune"
        )
    ranks = [part.rank or 1 for part in parts]
    most = platform.serving.max_lora_rank(base)
    if keeps_rank(kind) and len(set(ranks)) > 1:
        why = f"{kind} combines factors of one rank, and the adapters have {', '.join(map(str, ranks))}"
        raise _refused("combination", why, "cat or an svd kind")
    rank = sum(ranks) if kind == "cat" else body.rank or max(ranks)
    if rank > most:
        field = "rank" if body.rank is not None else "combination"
        raise _refused(
            field,
            f"{kind} gives an adapter of rank {rank}, and the engines of {base} serve up to {most} (max_lora_rank)",
            f"an svd kind with a rank of at most {most}",
        )


def _record(db: Store, body: BlendRequest, record: AdapterRecord, actor: str) -> tuple[Release, Release]:
    """Record the adapter, what it was combined from, and its release; return the release and the stable one."""
    with db.atomic():
        named = [releases.get(db, one.release) for one in body.releases]
        parents = [
            Parent(str(release.adapter), one.weight, release.id)
            for release, one in zip(named, body.releases, strict=True)
        ]
        adapters.record(db, record)
        adapter_parents.record(db, record.id, parents)
        stable = releases.get(db, deployments.get(db, named[0].deployment).stable)
        made = releases.create(
            db,
            stable.deployment,
            record.base,
            adapter=record.id,
            system_prompt=stable.system_prompt,
            sampling=stable.sampling,
            created_by=actor,
        )
        how = {
            "combination": body.combination,
            "releases": {p.ref: o.weight for p, o in zip(named, body.releases, strict=True)},
        }
        audit.record(db, actor, "release.blend", made.ref, how)
    return made, stable


def _refused(field: str, why: str, accepted: str) -> Problem:
    return Problem(422, why, field=field, accepted=accepted)
