"""From a release back to the words that trained it, and from a person or a pair forward to every release.

release -> adapter -> run -> snapshot -> members -> pairs, demonstrations and likes -> evidence -> votes, likes,
raters; and where training began from an earlier adapter, or several were combined, on through those. The view
`adapter_ancestry` (one row an adapter and each it stands on, itself included) answers both directions.
"""

from __future__ import annotations

from typing import Any

from store.db import validation
from store.db.database import Cursor, Store
from store.db.rows import Row, check_limit, fetch_all, fetch_first, fetch_one, scalar
from store.rollout import adapter_parents, release_examples
from store.rollout.releases import Release

NOUNS = {"pairs": "pair", "demonstrations": "demo", "likes": "like"}
"""What a release can have learned from, and how the ids of these rows begin."""

_RELEASE = "id, deployment || '@' || number as ref, adapter, run"


def of_release(db: Store, release: Release) -> dict[str, Any]:
    """Return where a release comes from: its adapter, run, snapshot, and how many pairs, raters and prompts.

    Keys: release, adapter, run, snapshot (each null where there is none), `ancestors` (the releases whose
    adapters the training began from or that were combined, nearest first), `blended_from` (of a combination, each
    release with its adapter and weight), `pairs`, `demonstrations`, `prompts` (counts), `raters`
    (names with the number of rows that each supports, most first), `imports` (likewise, by source), and `decided_by` (who
    decided the rows of its own snapshot: people, import, or the kind of made rows; `kind`, `rows`, `share` of the weight).
    Other counts cover the release's own snapshot and those of its ancestors.
    """
    cursor = db.read()
    adapter = fetch_first(
        cursor, "select id, base, run, start_adapter from adapters where id = $id", {"id": release.adapter}
    )
    run = fetch_first(
        cursor,
        "select id, method, qlora, snapshot, start_adapter, requested_by from runs where id = $id",
        {"id": release.run or (adapter["run"] if adapter else None)},
    )
    snapshot = fetch_first(
        cursor,
        "select id, method, train_rows, heldout_rows from snapshots where id = $id",
        {"id": run["snapshot"] if run else None},
    )
    ancestors = fetch_all(
        cursor,
        f"""
        select {_RELEASE}
        from releases
        join (
            select ancestor, depth from adapter_ancestry where adapter = $adapter and depth > 0
        ) on releases.adapter = ancestor
        order by depth, id desc
        """,
        {"adapter": release.adapter},
    )
    return {
        "release": {"id": release.id, "ref": release.ref},
        "adapter": adapter,
        "run": run,
        "snapshot": snapshot,
        "ancestors": ancestors,
        **_material(db, release.adapter),
        "comparisons": _comparisons(db, release.adapter),
        "examples": release_examples.references(db, release.id),
        "blended_from": adapter_parents.of_adapter(db, release.adapter),
    }


def named(cursor: Cursor, ids: list[str]) -> list[Row]:
    """Return releases by record id: `{id, ref, adapter, run}` each."""
    return fetch_all(cursor, f"select {_RELEASE} from releases where list_contains($ids, id)", {"ids": ids})


def page(
    db: Store, release: Release, noun: str = "pairs", limit: int = 100, after: str | None = None
) -> list[Row]:
    """Return the rows behind a release, itself or through an adapter below, in order of ids from above `after`.

    Each: `id`, `split` ("train", or "heldout" where no snapshot trained on it), `weight` and `snapshot` (the nearest that
    holds it), `prompt_hash`, `prompt` (messages), `raters` (names of those behind it), `comparisons` (ids), `source`,
    `import_id`, and `erased`: then all but the first four are empty. Memory goes with `limit` (1 to 1000). Raises
    `Invalid`.
    """
    prefix = NOUNS[validation.one_of("noun", noun, tuple(NOUNS))]
    cursor = db.read()
    snapshots = fetch_all(
        cursor,
        """
        select snapshot_id, min(depth) as depth
        from adapter_ancestry
        join adapter_snapshots on adapter_snapshots.adapter = adapter_ancestry.ancestor
        where adapter_ancestry.adapter = $adapter
        group by snapshot_id
        """,
        {"adapter": release.adapter},
    )
    # behind: the snapshots of the ancestors by depth; first: the members of this page, several where snapshots share an
    # item; the nearest ancestor's weight and snapshot are shown.
    members = fetch_all(
        cursor,
        """
        with behind as (
            select unnest($snapshots::varchar[]) as snapshot_id, unnest($depths::integer[]) as depth
        ),
        first as (
            select item_id, split, weight, snapshot_id, depth
            from snapshot_members
            join behind using (snapshot_id)
            where item_id > $after and item_id < $end
            order by item_id
            limit $most
        )
        select item_id as id, if(bool_or(split = 'train'), 'train', 'heldout') as split, arg_min(weight, depth) as weight,
            arg_min(snapshot_id, depth) as snapshot
        from first
        group by item_id
        order by item_id
        limit $limit
        """,
        {
            "snapshots": [row["snapshot_id"] for row in snapshots],
            "depths": [row["depth"] for row in snapshots],
            "after": max(after or "", f"{prefix}-"),
            "end": f"{prefix}.",  # the letter after `-`
            "limit": check_limit(limit),
            "most": limit * max(1, len(snapshots)),  # a row comes at most once a snapshot
        },
    )
    if not members:
        return []
    known = _known(cursor, noun, [row["id"] for row in members])
    empty: Row = {
        "prompt_hash": None,
        "prompt": None,
        "source": None,
        "import_id": None,
        "raters": [],
        "comparisons": [],
    }
    return [{**row, **known.get(row["id"], empty), "erased": row["id"] not in known} for row in members]


def _known(cursor: Cursor, noun: str, ids: list[str]) -> dict[str, Row]:
    """Return the stored facts of rows, in order of ids, by id; those that are gone are left out."""
    params = {"ids": ids, "first": ids[0], "last": ids[-1]}
    person = "user_name" if noun == "likes" else "null::varchar"
    found = fetch_all(
        cursor,
        f"""
        select id, prompt_hash, prompt, source, import_id, {person} as person
        from {noun}
        where id between $first and $last and id in (select unnest($ids))
        """,
        params,
    )
    supporters = {
        row["id"]: row
        for row in fetch_all(
            cursor,
            """
            select subject_id as id, list(distinct person order by person) filter (person is not null) as raters,
                list(distinct comparison_id order by comparison_id) filter (comparison_id is not null) as comparisons
            from evidence
            left join votes on votes.id = evidence.ref
            where subject_id between $first and $last and subject_id in (select unnest($ids))
            group by subject_id
            """,
            params,
        )
    }
    known = {}
    for row in found:
        own, supporter = row.pop("person"), supporters.get(row["id"], {})
        raters = supporter.get("raters") or ([own] if own else [])
        known[row["id"]] = row | {"raters": raters, "comparisons": supporter.get("comparisons") or []}
    return known


def of_pair(db: Store, item_id: str) -> list[Row]:
    """Return the releases that learned from a pair or demonstration (id, ref, adapter, run), oldest first.

    Held-out rows do not count: nothing was learned from them.
    """
    return of_items(db, [item_id])


def of_items(db: Store, item_ids: list[str]) -> list[Row]:
    """Return the releases that learned from any of several pairs or demonstrations, oldest first."""
    return _releases_of(db, "select unnest($items::varchar[]) as item_id", {"items": item_ids})


def of_person(db: Store, name: str) -> list[Row]:
    """Return the releases that learned from what a person voted, wrote or liked, oldest first."""
    return _releases_of(
        db,
        """
        select subject_id as item_id from evidence where person = $person
        union
        select id as item_id from likes where user_name = $person
        """,
        {"person": name},
    )


def _releases_of(db: Store, items: str, params: dict[str, Any]) -> list[Row]:
    return fetch_all(
        db.read(),
        f"""
        with items as ({items}),
        taught as (
            select distinct adapter_ancestry.adapter
            from adapter_ancestry
            join adapter_snapshots on adapter_snapshots.adapter = adapter_ancestry.ancestor
            join snapshot_members using (snapshot_id)
            where split = 'train' and item_id in (select item_id from items)
        )
        select {_RELEASE}
        from releases
        where adapter in (select adapter from taught)
        order by created_at, id
        """,
        params,
    )


def _material(db: Store, adapter: str | None) -> dict[str, Any]:
    cursor = db.read()
    params = {"adapter": adapter}
    # items: what the adapter and its ancestors were trained on; learned: the rows of these that are still there.
    rows = """
        with items as (
            select distinct item_id
            from adapter_ancestry
            join adapter_snapshots on adapter_snapshots.adapter = adapter_ancestry.ancestor
            join snapshot_members using (snapshot_id)
            where adapter_ancestry.adapter = $adapter and split = 'train'
        ),
        learned as (
            select 'pair' as noun, id, prompt_hash, source, import_id from pairs where id in (from items)
            union all
            select 'demonstration' as noun, id, prompt_hash, source, import_id
            from demonstrations
            where id in (from items)
            union all
            select 'like' as noun, id, prompt_hash, source, import_id from likes where id in (from items)
        )
        """
    counts = fetch_one(
        cursor,
        rows
        + """
        select count(*) filter (noun = 'pair') as pairs,
            count(*) filter (noun = 'demonstration') as demonstrations,
            count(*) filter (noun = 'like') as likes,
            count(distinct prompt_hash) as prompts
        from learned
        """,
        params,
    )
    raters = fetch_all(
        cursor,
        rows
        + """
        , supporters as (
            select person, subject_id from evidence
            union all
            select user_name as person, id as subject_id from likes
        )
        select person as name, count(distinct subject_id) as rows
        from supporters
        where person is not null and subject_id in (select id from learned)
        group by person
        order by rows desc, name
        """,
        params,
    )
    imports = fetch_all(
        cursor,
        rows
        + """
        select source, count(*) as rows
        from learned
        where import_id is not null
        group by source
        order by rows desc, source
        """,
        params,
    )
    return {**counts, "raters": raters, "imports": imports, "decided_by": _decided_by(cursor, adapter)}


def _decided_by(cursor: Cursor, adapter: str | None) -> list[Row]:
    """Return who decided what an adapter learned: kind (people, import, rules, judge, release, distilled), rows, share.

    The share is of the weight in the adapter's own snapshot, or in the nearest that are behind it (of each adapter that it
    was combined from). What was erased since counts as `erased`.
    """
    return fetch_all(
        cursor,
        """
        with behind as (
            select snapshot_id, depth
            from adapter_ancestry
            join adapter_snapshots on adapter_snapshots.adapter = adapter_ancestry.ancestor
            where adapter_ancestry.adapter = $adapter
        ),
        nearest as (
            select snapshot_id from behind where depth = (select min(depth) from behind)
        ),
        taught as (
            select item_id, max(weight) as weight
            from snapshot_members
            where snapshot_id in (from nearest) and split = 'train'
            group by item_id
        ),
        known as (
            select id, import_id from pairs where id in (select item_id from taught)
            union all
            select id, import_id from demonstrations where id in (select item_id from taught)
            union all
            select id, import_id from likes where id in (select item_id from taught)
        ),
        supported as (
            select subject_id, bool_or(evidence.kind <> 'made') as by_people, any_value(made_rows.kind) as made
            from evidence
            left join made_rows on evidence.kind = 'made' and made_rows.id = ref
            where subject_id in (select item_id from taught)
            group by subject_id
        )
        select case
                when known.id is null then 'erased'
                when by_people then 'people'
                when import_id is not null then 'import'
                else coalesce(made, 'people')
            end as kind,
            count(*) as rows, sum(weight) / sum(sum(weight)) over () as share
        from taught
        left join known on known.id = item_id
        left join supported on subject_id = item_id
        group by all
        order by share desc, kind
        """,
        {"adapter": adapter},
    )


def _comparisons(db: Store, adapter: str | None) -> int:
    return int(
        scalar(
            db.read(),
            """
            select count(distinct comparison_id)
            from adapter_ancestry
            join adapter_snapshots on adapter_snapshots.adapter = adapter_ancestry.ancestor
            join snapshot_members on snapshot_members.snapshot_id = adapter_snapshots.snapshot_id and split = 'train'
            join evidence on evidence.subject_id = item_id
            join votes on votes.id = evidence.ref
            where adapter_ancestry.adapter = $adapter
            """,
            {"adapter": adapter},
        )
    )
