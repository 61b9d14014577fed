"""What two releases differ in: configuration, prompt, and how they were trained."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import unified_diff
from typing import Any

from pydantic import Field

from store.db.database import Store
from store.errors import NotFound
from store.rollout import release_examples, releases, runs
from store.rollout.chat_template_kwargs import fixed_by, without
from store.rollout.releases import Release
from trimtab.api.base import View


class ChangedFieldView(View):
    """One field that two releases have different values of; null where one has none."""

    name: str = Field(description="base, adapter, sampling.NAME, chat_template_kwargs.NAME, training.NAME, …")
    before: Any
    after: Any


class DifferenceView(View):
    """What changes from one release to another."""

    release: str
    against: str
    fields: list[ChangedFieldView]
    prompt: list[str] = Field(
        description="lines of the system prompts as a unified diff: ` ` both, `-` only `against`, `+` only `release`"
    )


def difference(db: Store, ref: str, against: str) -> DifferenceView:
    """Return what changes from `against` to `ref`. Raises `NotFound`."""
    after, before = releases.get(db, ref), releases.get(db, against)
    one, other = _facts(db, before), _facts(db, after)
    names = list(dict.fromkeys([*one, *other]))
    changed = [
        ChangedFieldView(name=name, before=one.get(name), after=other.get(name))
        for name in names
        if one.get(name) != other.get(name)
    ]
    return DifferenceView(release=after.ref, against=before.ref, fields=changed, prompt=_lines(before, after))


def _lines(before: Release, after: Release) -> list[str]:
    """Return the prompts line by line, the whole of both; empty where they are equal."""
    old, new = ((release.system_prompt or "").splitlines() for release in (before, after))
    whole = max(len(old), len(new))
    # the first three lines name files and the place in them, which prompts do not have
    return list(unified_diff(old, new, n=whole, lineterm=""))[3:]


def _facts(db: Store, release: Release) -> dict[str, Any]:
    facts: dict[str, Any] = {"base": release.base, "adapter": release.adapter}
    facts |= _named("sampling", without(release.sampling))
    facts |= _named("chat_template_kwargs", fixed_by(release.sampling))
    facts["examples"] = release_examples.counts(db).get(release.id, 0)
    if release.run:
        facts |= _training(db, release.run)
    return facts


def _training(db: Store, ident: str) -> dict[str, Any]:
    """Return what a run was asked for; nothing of one that is gone."""
    try:
        run = runs.get(db, ident)
    except NotFound:
        return {}
    known = {
        "run": run.id,
        "method": run.method,
        "qlora": run.qlora,
        "recipe": run.recipe,
        "snapshot": run.snapshot,
    }
    return _named("training", {**known, **run.params})


def _named(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": value for name, value in values.items()}
