"""Near duplicates: which prompts say almost the same, and which rows of such prompts do.

`refresh` fingerprints what arrived since the last time, finds candidates by shared keys, verifies each on the text
and keeps the likeness. It works in batches beside the writer, at the end of an import and before a snapshot, so that
a snapshot itself only reads. Buckets are compared with their first member, not all against all, so that a thousand
copies cost a thousand comparisons.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from store.database import Cursor, Store
from store.rows import scalar

LEAST = 0.5  # similarities below are not kept
BATCH = 4000
_WINDOW = 200  # rows of one prompt that a new row is compared with
_MOST_BITS = 16  # of 64 that may differ between candidates

_PARTS = {"pairs": ("chosen", "rejected"), "demonstrations": ("completion",), "likes": ("completion",)}


def refresh(db: Store, noun: str, on_progress: Callable[[int, int], None] | None = None) -> None:
    """Fingerprint the rows of `noun` ("pairs", "demonstrations" or "likes") that are new, and find their near duplicates.

    `on_progress(done, total)` counts rows. May be stopped at any point and run again.
    """
    cursor = db.cursor()
    try:
        start = _progress(cursor, noun)
        newest = int(scalar(cursor, f"select coalesce(max(seq), 0) from {noun}"))
        if newest <= start:
            return
        done = max(start, _progress(cursor, f"{noun} printed"))
        while done < newest:
            last = min(done + BATCH, newest)
            _fingerprint(db, cursor, noun, done, last)
            done = last
            if on_progress:
                on_progress(done - start, newest - start)
        _match(db, cursor, noun, start)
        with db.atomic() as writer:
            _set_progress(writer, noun, newest)
    finally:
        cursor.close()


def groups(cursor: Cursor, least: float) -> None:
    """Fill the temporary tables prompt_groups and row_groups with what is alike at similarity `least` or above."""
    for table, key in (("prompt", "prompt_hash"), ("row", "id")):
        edges = cursor.execute(
            f"select {key}, other from near_{table}s where similarity >= $least", {"least": least}
        ).fetchall()
        roots = _components(edges)
        batch = pa.table({key: list(roots), "group_id": list(roots.values())})
        if roots:
            cursor.register("found_groups", batch)
            cursor.execute(f"insert into {table}_groups select * from found_groups")
            cursor.unregister("found_groups")


def forget(cursor: Cursor) -> None:
    """Delete the fingerprints of rows and prompts that are gone, within a transaction."""
    alive = "(select {0} from pairs union all select {0} from demonstrations union all select {0} from likes)"
    cursor.execute(f"delete from row_sketches where id not in {alive.format('id')}")
    cursor.execute(
        f"delete from near_rows where id not in {alive.format('id')} or other not in {alive.format('id')}"
    )
    cursor.execute(f"delete from prompt_prints where prompt_hash not in {alive.format('prompt_hash')}")
    cursor.execute(
        f"delete from near_prompts where prompt_hash not in {alive.format('prompt_hash')} "
        f"or other not in {alive.format('prompt_hash')}"
    )


def _progress(cursor: Cursor, noun: str) -> int:
    rows = cursor.execute("select seq from near_progress where noun = ?", [noun]).fetchall()
    return int(rows[0][0]) if rows else 0


def _set_progress(cursor: Cursor, what: str, seq: int) -> None:
    cursor.execute(
        "insert into near_progress values ($what, $seq) on conflict (noun) do update set seq = excluded.seq",
        {"what": what, "seq": seq},
    )


def _fingerprint(db: Store, cursor: Cursor, noun: str, after: int, last: int) -> None:
    """Store the prints of the rows above number `after` up to `last`, and that it is done."""
    from store import fingerprint  # datasketch brings scipy: two seconds that only this work should pay for

    parts = ", ".join(_text(part) for part in _PARTS[noun])
    # Bounds, not a limit: the blocks' minima and maxima then keep the rest of the table unread.
    batch = cursor.execute(
        f"""
        select id, prompt_hash, {_text("prompt")}, {parts}
        from {noun}
        where seq > $after and seq <= $last
        """,
        {"after": after, "last": last},
    ).fetchall()
    texts = {row[1]: row[2] for row in batch}
    known = {
        row[0]
        for row in cursor.execute(
            "select prompt_hash from prompt_prints where prompt_hash in (select unnest($hashes))",
            {"hashes": list(texts)},
        ).fetchall()
    }
    fresh = [hash for hash in texts if hash not in known]
    prints = pa.table(
        {
            "prompt_hash": pa.array(fresh, pa.string()),
            "bands": pa.array([fingerprint.bands(texts[hash]) for hash in fresh], pa.list_(pa.uint64())),
        }
    )
    sketches = pa.table(
        {
            "id": pa.array([row[0] for row in batch], pa.string()),
            "prompt_hash": pa.array([row[1] for row in batch], pa.string()),
            "sketch": pa.array([fingerprint.sketch(row[3:]) for row in batch], pa.uint64()),
        }
    )
    with db.atomic() as writer:
        if _progress(writer, f"{noun} printed") > after:
            return  # a refresh in another thread was here
        for table, rows in (("prompt_prints", prints), ("row_sketches", sketches)):
            writer.register("new_prints", rows)
            writer.execute(f"insert into {table} select * from new_prints")
            writer.unregister("new_prints")
        _set_progress(writer, f"{noun} printed", last)


def _match(db: Store, cursor: Cursor, noun: str, start: int) -> None:
    """Compare what is above `start` with everything before it and with itself."""
    candidates = cursor.execute(
        f"""
        with fresh as (select distinct prompt_hash from {noun} where seq > $start),
        keys as (select prompt_hash, unnest(bands) as key from prompt_prints),
        shared as (select key, min(prompt_hash) as first from keys group by key having count(*) > 1)
        select distinct keys.prompt_hash, shared.first
        from keys
        join shared using (key)
        where keys.prompt_hash <> shared.first
            and (keys.prompt_hash in (from fresh) or shared.first in (from fresh))
        """,
        {"start": start},
    ).fetchall()
    _keep(db, cursor, "near_prompts", candidates, [noun], prompts=True)
    candidates = cursor.execute(
        f"""
        with centres as (
            select prompt_hash, min(other) as centre from near_prompts where similarity >= {LEAST} group by prompt_hash
        ),
        placed as (
            select id, sketch, coalesce(centre, prompt_hash) as centre,
                row_number() over (partition by coalesce(centre, prompt_hash) order by id) as place,
                count(*) over (partition by coalesce(centre, prompt_hash)) as n
            from row_sketches
            left join centres using (prompt_hash)
        ),
        shared as (select * from placed where n > 1)
        select later.id, earlier.id
        from shared later
        join shared earlier using (centre)
        where earlier.place between later.place - {_WINDOW} and later.place - 1
            and bit_count(xor(earlier.sketch, later.sketch)) <= {_MOST_BITS}
            and (later.id in (select id from {noun} where seq > $start)
                or earlier.id in (select id from {noun} where seq > $start))
        """,
        {"start": start},
    ).fetchall()
    _keep(db, cursor, "near_rows", candidates, [noun], prompts=False)


def _keep(
    db: Store,
    cursor: Cursor,
    table: str,
    candidates: list[tuple[str, str]],
    nouns: list[str],
    *,
    prompts: bool,
) -> None:
    """Verify candidates on their texts and keep those that are alike: rows in prompt and in answers, each by itself."""
    from store import fingerprint

    for start in range(0, len(candidates), BATCH):
        some = candidates[start : start + BATCH]
        texts = _texts(cursor, {item for pair in some for item in pair}, nouns, prompts=prompts)
        sets = {
            item: [fingerprint.features(parts[0])]
            + ([fingerprint.row_features(parts[1:])] if parts[1:] else [])
            for item, parts in texts.items()
        }
        found = [
            (one, other, min(map(fingerprint.jaccard, sets[one], sets[other])))
            for one, other in some
            if one in sets and other in sets
        ]
        alike = [edge for edge in found if edge[2] >= LEAST]
        if not alike:
            continue
        key = "prompt_hash" if prompts else "id"
        batch = pa.table(
            {key: [e[0] for e in alike], "other": [e[1] for e in alike], "similarity": [e[2] for e in alike]}
        )
        with db.atomic() as writer:
            writer.register("new_edges", batch)
            writer.execute(
                f"insert into {table} select * from new_edges where ({key}, other) not in "
                f"(select ({key}, other) from {table})"
            )
            writer.unregister("new_edges")


def _texts(cursor: Cursor, items: set[str], nouns: list[str], *, prompts: bool) -> dict[str, tuple[str, ...]]:
    nouns = list(_PARTS) if prompts else nouns
    read: dict[str, tuple[str, ...]] = {}
    for noun in nouns:
        key = "prompt_hash" if prompts else "id"
        columns = ", ".join(_text(part) for part in (("prompt",) if prompts else ("prompt", *_PARTS[noun])))
        for row in cursor.execute(
            f"select {key}, {columns} from {noun} where {key} in (select unnest($items))",
            {"items": sorted(items)},
        ).fetchall():
            read[row[0]] = row[1:]
    return read


def _text(column: str) -> str:
    return f"array_to_string(list_transform({column}, lambda m: m.content), chr(10))"


def _components(edges: list[tuple[str, str]]) -> dict[str, str]:
    """Return the smallest member of each connected component, by member."""
    parent: dict[str, str] = {}

    def root(item: str) -> str:
        parent.setdefault(item, item)
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in edges:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return {item: root(item) for item in parent}
