"""What an adapter that was combined from others learned from, and whom an erasure reaches through it."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.db.database import Store
from store.errors import Conflict
from store.privacy import erasure
from store.rollout import adapter_parents, adapters, lineage, releases
from store.rollout.adapter_parents import Parent
from store.rollout.adapters import AdapterRecord
from store.rollout.releases import Release
from tests.store.trained_releases import refs, trained, vote


def blended(db: Store, name: str, *parts: tuple[Release, float]) -> Release:
    adapters.record(db, AdapterRecord(name, "smol", f"/{name}"))
    adapter_parents.record(db, name, [Parent(str(r.adapter), weight, r.id) for r, weight in parts])
    return releases.create(db, "assistant", "smol", name)


def two(db: Store, home: Path) -> tuple[Release, Release]:
    """Two releases that learned from ada's vote; the second from cy's too."""
    vote(db, "q1", "ada")
    first, _ = trained(db, home, "a-1")
    vote(db, "q2", "cy")
    return first, trained(db, home, "a-2")[0]


def test_a_combined_adapter_learned_what_its_parts_learned(db: Store, tmp_path: Path) -> None:
    first, second = two(db, tmp_path)
    made = blended(db, "a-3", (first, 0.7), (second, -0.3))
    found = lineage.of_release(db, made)
    assert found["blended_from"] == [
        {"adapter": "a-1", "weight": 0.7, "ref": first.ref},
        {"adapter": "a-2", "weight": -0.3, "ref": second.ref},
    ]
    assert sorted(refs(found["ancestors"])) == [first.ref, second.ref]
    assert (found["pairs"], found["run"], found["snapshot"]) == (2, None, None)
    assert found["raters"] == [{"name": "ada", "rows": 1}, {"name": "cy", "rows": 1}]
    assert [(row["kind"], row["rows"]) for row in found["decided_by"]] == [("people", 2)]
    assert sum(row["share"] for row in found["decided_by"]) == pytest.approx(1)
    assert len(lineage.page(db, made)) == 2
    assert lineage.of_release(db, first)["blended_from"] == []
    on_top, _ = trained(db, tmp_path, "a-4", start="a-3")
    assert lineage.of_release(db, on_top)["pairs"] == 2


def test_an_erasure_reaches_a_combined_adapter(db: Store, tmp_path: Path) -> None:
    first, second = two(db, tmp_path)
    made = blended(db, "a-3", (first, 0.5), (second, 0.5))
    again = blended(db, "a-4", (made, 2.0))
    assert refs(lineage.of_person(db, "cy")) == [second.ref, made.ref, again.ref]
    done = erasure.erase_person(db, "cy")
    assert set(refs(done.releases)) == {second.ref, made.ref, again.ref}
    assert {row["ref"] for row in erasure.flagged(db)} == {second.ref, made.ref, again.ref}
    assert erasure.clean_start(db, "a-4") == "a-1"


def test_an_adapter_is_never_its_own_parent(db: Store, tmp_path: Path) -> None:
    first, second = two(db, tmp_path)
    made = blended(db, "a-3", (first, 0.5), (second, 0.5))
    for parent in (first, made):
        with pytest.raises(Conflict, match="a-1"):
            adapter_parents.record(db, "a-1", [Parent(str(parent.adapter), 1.0, parent.id)])
    adapter_parents.record(db, "a-3", [Parent("a-2", 1.0, second.id)])
    assert [row["adapter"] for row in adapter_parents.of_adapter(db, "a-3")] == ["a-1", "a-2"]
