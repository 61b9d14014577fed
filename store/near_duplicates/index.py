"""Near duplicates: which prompts say almost the same, and which rows of such prompts do.

`refresh` fingerprints what arrived since the last time, finds candidates by shared keys, verifies each on the text
and keeps the likeness. It works in batches beside the writer, at the end of an import and before a snapshot, so that
a snapshot itself only reads. Only rows that share a prompt with others, exactly or nearly, get a sketch. Buckets are
compared with their first member, not all against all, so that a thousand copies cost a thousand comparisons. Prompts
go by the first 64 bits of their hash: should two ever share them, they count as one prompt, which harms no split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from store.db.database import Cursor, Store
from store.db.rows import scalar

MIN_SIMILARITY = 0.7  # similarities below are not kept
BATCH = 4000
_VERIFIED = 20_000  # candidates whose features are held at a time
_WINDOW = 200  # rows of one prompt that a new row is compared with
_CLOSEST = 4  # of these that are verified: copies of one row are tied to each other, not each to all
_MOST_BITS = 26  # of 128 that may differ between candidates: 13 are expected at similarity 0.8, 19 at 0.7

# A prompt by number: the first 64 bits of its hash, the same in every store and version.
PROMPT_KEY = "('0x' || left(prompt_hash, 16))::ubigint"

# A conversation's root, the prompt that is its first user message alone, by number; a prompt of one message is its own.
_ROOT = "(coalesce(list_filter(prompt, lambda m: m.role = 'user')[1], prompt[1]))"
ROOT_KEY = f"""
    if(len(prompt) = 1, {PROMPT_KEY},
        ('0x' || left(sha256(concat_ws(' ', {_ROOT}.role, length({_ROOT}.content), {_ROOT}.content)), 16))::ubigint)
    """

_PARTS = {"pairs": ("chosen", "rejected"), "demonstrations": ("completion",), "likes": ("completion",)}


def refresh(db: Store, noun: str, on_progress: Callable[[int, int], None] | None = None) -> None:
    """Fingerprint the rows of `noun` ("pairs", "demonstrations" or "likes") that are new, and find their near duplicates.

    `on_progress(done, total)` counts rows. May be stopped at any point and run again.
    """
    with db.long_work:
        _refresh(db, noun, on_progress)


def _refresh(db: Store, noun: str, on_progress: Callable[[int, int], None] | None) -> None:
    cursor = db.cursor()
    try:
        start = _progress(cursor, noun)
        newest = int(scalar(cursor, f"select coalesce(max(seq), 0) from {noun}"))
        if newest <= start:
            return
        bounds = {"start": start, "newest": newest}
        cursor.execute(
            f"""
            create or replace temp table fresh as
            select prompt_key, coalesce(min(seq) filter (not root), min(seq)) as seq, bool_and(root) as root
            from (
                select {PROMPT_KEY} as prompt_key, seq, false as root
                from {noun}
                where seq > $start and seq <= $newest
                union all
                select {ROOT_KEY} as prompt_key, seq, true as root
                from {noun}
                where seq > $start and seq <= $newest and len(prompt) > 1
            )
            group by prompt_key
            """,
            bounds,
        )
        tell = on_progress or (lambda done, total: None)
        _print(db, noun, cursor, lambda done: tell(min(done, newest - start), newest - start))
        _keep(db, cursor, noun, "near_prompts", _alike_prompts(cursor))
        _sketch(db, noun, cursor)
        _keep(db, cursor, noun, "near_rows", _alike_rows(cursor, noun, bounds))
        tell(newest - start, newest - start)
        with db.atomic() as writer:
            writer.execute(
                "insert into near_progress values ($noun, $newest) "
                "on conflict (noun) do update set seq = excluded.seq",
                {"noun": noun, "newest": newest},
            )
    finally:
        cursor.close()


def groups(cursor: Cursor, noun: str, least: float | None) -> None:
    """Fill temporary tables with what belongs together at similarity `least` or above; None compares exactly.

    `prompt_groups` and `row_groups` hold prompts and rows that are alike, `turned` the prompts of several messages with
    their roots, and `clusters` what never stands on both sides of a split: prompts that are alike, and the turns of
    conversations whose roots are.
    """
    turned = " union ".join(
        f"select {PROMPT_KEY} as prompt_key, {ROOT_KEY} as root_key from {table} where len(prompt) > 1"
        for table in _PARTS
    )
    cursor.execute(f"create or replace temp table turned as {turned}")
    alike = "select {0} as one, other from {1} where similarity >= $least"
    prompts = alike.format("prompt_key", "near_prompts")
    for table, key, edges in (
        ("prompt_groups", "prompt_key", prompts),
        ("row_groups", "seq", f"{alike.format('seq', 'near_rows')} and noun = '{noun}'"),
        ("clusters", "prompt_key", f"{prompts} union all select prompt_key, root_key from turned"),
    ):
        kind = "bigint" if key == "seq" else "ubigint"
        cursor.execute(f"create or replace temp table {table} ({key} {kind}, group_id {kind})")
        found = cursor.execute(edges, {"least": 2.0 if least is None else least}).fetchnumpy()
        if len(found["one"]):
            members, smallest = _components(found["one"], found["other"])
            cursor.register("found_groups", pa.table({key: members, "group_id": smallest}))
            cursor.execute(f"insert into {table} select * from found_groups")
            cursor.unregister("found_groups")


def similarity(one: str, other: str) -> float:
    """Return the Jaccard similarity of two texts' words and word pairs, 0 to 1."""
    from store.near_duplicates import fingerprint

    return fingerprint.jaccard(*fingerprint.features(pa.array([one, other], pa.string())))


def erase(cursor: Cursor) -> None:
    """Delete the fingerprints of rows and prompts that are gone, within a transaction."""
    for noun in _PARTS:
        cursor.execute(
            f"delete from row_sketches where noun = '{noun}' and seq not in (select seq from {noun})"
        )
        cursor.execute(
            f"delete from near_rows where noun = '{noun}' "
            f"and (seq not in (select seq from {noun}) or other not in (select seq from {noun}))"
        )
    alive = " union all ".join(
        f"select {PROMPT_KEY} from {noun} union all select {ROOT_KEY} from {noun} where len(prompt) > 1"
        for noun in _PARTS
    )
    alive = f"({alive})"
    cursor.execute(f"delete from prompt_prints where prompt_key not in {alive}")
    cursor.execute(f"delete from near_prompts where prompt_key not in {alive} or other not in {alive}")


def _progress(cursor: Cursor, noun: str) -> int:
    rows = cursor.execute("select seq from near_progress where noun = ?", [noun]).fetchall()
    return int(rows[0][0]) if rows else 0


def _print(db: Store, noun: str, cursor: Cursor, tell: Callable[[int], None]) -> None:
    """Store the keys of the fresh prompts that have none."""
    from store.near_duplicates import fingerprint

    done = 0
    for batch in _stream(
        cursor,
        f"""
        select prompt_key, if(root, {_ROOT}.content, {_text("prompt")}) as text
        from {noun}
        join (from fresh where prompt_key not in (select prompt_key from prompt_prints)) using (seq)
        """,
    ):
        keys = fingerprint.bands(batch["text"])
        bands = pa.ListArray.from_arrays(
            pa.array(np.arange(0, keys.size + 1, keys.shape[1]), pa.int32()), pa.array(keys.ravel())
        )
        _append(db, "prompt_prints", {"prompt_key": batch["prompt_key"], "bands": bands})
        tell(done := done + len(bands))


def _alike_prompts(cursor: Cursor) -> pa.Table:
    """Return the prompts that share a key with the first of its bucket, where either is fresh."""
    return cursor.sql(
        """
        with fresh_keys as (
            select distinct unnest(bands) as key from prompt_prints where prompt_key in (select prompt_key from fresh)
        ),
        keys as (
            select * from (select prompt_key, unnest(bands) as key from prompt_prints) semi join fresh_keys using (key)
        ),
        shared as (select key, min(prompt_key) as first from keys group by key having count(*) > 1)
        select distinct keys.prompt_key as one, shared.first as other
        from keys
        join shared using (key)
        where keys.prompt_key <> shared.first
            and (keys.prompt_key in (select prompt_key from fresh) or shared.first in (select prompt_key from fresh))
            and (keys.prompt_key, shared.first) not in (select (prompt_key, other) from near_prompts)
        """
    ).to_arrow_table()


def _sketch(db: Store, noun: str, cursor: Cursor) -> None:
    """Store the sketches of the rows that share a prompt, exactly or nearly, with a fresh row, and have none."""
    from store.near_duplicates import fingerprint

    prompts = " union all ".join(f"select {PROMPT_KEY} as other from {table}" for table in _PARTS)
    cursor.execute(
        f"""
        create or replace temp table crowded as
        with centres as (
            select prompt_key, min(other) as centre
            from near_prompts
            semi join ({prompts}) using (other)  -- not roots alone, which have no rows
            where similarity >= {MIN_SIMILARITY}
            group by prompt_key
        ),
        placed as (
            select seq, coalesce(centre, prompt_key) as centre, prompt_key
            from (select seq, {PROMPT_KEY} as prompt_key from {noun})
            left join centres using (prompt_key)
        )
        select seq, centre, prompt_key
        from placed
        where centre in (select centre from placed where prompt_key in (select prompt_key from fresh))
        qualify count(*) over (partition by centre) > 1
        """
    )
    parts = ", ".join(_text(part) for part in _PARTS[noun])
    first, last = _PARTS[noun][0], _PARTS[noun][-1]
    hashes = f"md5_number_lower({_text(first)}) as first_hash, md5_number_lower({_text(last)}) as last_hash"
    for batch in _stream(
        cursor,
        f"""
        select seq, [{parts}] as texts, {hashes}
        from {noun}
        semi join (
            select seq from crowded where seq not in (select seq from row_sketches where noun = '{noun}')
        ) as missing using (seq)
        """,
    ):
        halves = fingerprint.sketches(batch["texts"].flatten(), len(_PARTS[noun]))
        columns = {
            "noun": pa.array([noun] * len(halves)),
            "seq": batch["seq"],
            "high": pa.array(halves[:, 0]),
            "low": pa.array(halves[:, 1]),
            "first_hash": batch["first_hash"],
            "last_hash": batch["last_hash"],
        }
        _append(db, "row_sketches", columns)


def _alike_rows(cursor: Cursor, noun: str, bounds: dict[str, int]) -> pa.Table:
    """Return the rows of one prompt (or of alike prompts) whose sketches are close, where either is fresh."""
    return cursor.sql(
        f"""
        with placed as (
            select seq, high, low, centre, prompt_key, row_number() over (partition by centre order by seq) as place
            from crowded
            join (from row_sketches where noun = '{noun}') using (seq)
        ),
        close as (
            select later.seq as one, earlier.seq as other, centre, earlier.prompt_key <> later.prompt_key as apart,
                bit_count(xor(earlier.high, later.high)) + bit_count(xor(earlier.low, later.low)) as bits
            from placed later
            join placed earlier using (centre)
            where later.seq > $start
                and earlier.place between later.place - {_WINDOW} and later.place - 1
                and bits <= {_MOST_BITS}
        ),
        closest as (
            select one, centre,
                unnest(arg_min(struct_pack(other, apart), bits::hugeint * 1000000000000000 + other, {_CLOSEST})) as near
            from close
            group by one, centre
        )
        select one, near.other as other, near.apart as apart
        from closest
        where (one, near.other) not in (select (seq, other) from near_rows where noun = '{noun}')
        order by centre, one, other  -- what is compared with the same rows is verified together
        """,
        params={"start": bounds["start"]},
    ).to_arrow_table()


def _keep(db: Store, cursor: Cursor, noun: str, table: str, candidates: pa.Table) -> None:
    """Verify candidates on their texts and keep those that are alike: rows in prompt and in answers, each by itself."""
    prompts = table == "near_prompts"
    for start in range(0, len(candidates), _VERIFIED):
        some = candidates.slice(start, _VERIFIED)
        one, other = (some[name].to_numpy() for name in ("one", "other"))
        if prompts:
            likeness = _likeness(cursor, _prompt_texts(), 1, one, other)
        else:
            likeness = _likeness(cursor, _row_texts(noun, _PARTS[noun]), len(_PARTS[noun]), one, other)
            apart = some["apart"].to_numpy() & (
                likeness >= MIN_SIMILARITY
            )  # other prompts: these must be alike, too
            asked = _likeness(cursor, _row_texts(noun, ("prompt",)), 1, one[apart], other[apart])
            likeness[apart] = np.minimum(likeness[apart], asked)
        alike = likeness >= MIN_SIMILARITY
        columns: dict[str, Any] = {} if prompts else {"noun": pa.array([noun] * int(alike.sum()))}
        columns |= {"prompt_key" if prompts else "seq": pa.array(one[alike]), "other": pa.array(other[alike])}
        _append(db, table, columns | {"similarity": pa.array(likeness[alike])})


def _likeness(
    cursor: Cursor, texts: str, parts: int, one: NDArray[Any], other: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the Jaccard similarity of each `one` and `other`; -1 where either has been withdrawn meanwhile.

    `texts` reads (item, texts) of the items in the view `wanted`, `parts` texts each.
    """
    from store.near_duplicates import fingerprint

    found: dict[int, fingerprint.Words] = {}
    if len(one):
        cursor.register("wanted", pa.table({"item": np.unique(np.concatenate((one, other)))}))
        try:
            for batch in _stream(cursor, texts):
                features = fingerprint.features(batch["texts"].flatten(), parts)
                found.update(zip(batch["item"].to_pylist(), features, strict=True))
        finally:
            cursor.unregister("wanted")
    return np.array(
        [
            fingerprint.jaccard(found[a], found[b]) if a in found and b in found else -1.0
            for a, b in zip(one.tolist(), other.tolist(), strict=True)
        ],
        np.float64,
    )


def _prompt_texts() -> str:
    """Return the query for the texts of prompts, each from whichever noun has it."""
    parts = " union all ".join(
        f"select item, {text} as prompt from (select *, {key} as item from {noun} where {condition}) "
        "semi join wanted using (item)"
        for noun in _PARTS
        for text, key, condition in (
            (_text("prompt"), PROMPT_KEY, "true"),
            (f"{_ROOT}.content", ROOT_KEY, "len(prompt) > 1"),
        )
    )
    return f"select item, [any_value(prompt)] as texts from ({parts}) group by item"


def _row_texts(noun: str, parts: tuple[str, ...]) -> str:
    """Return the query for parts of the texts of rows."""
    texts = ", ".join(_text(part) for part in parts)
    return f"select seq as item, [{texts}] as texts from {noun} semi join wanted on wanted.item = {noun}.seq"


def _stream(cursor: Cursor, query: str) -> Iterator[pa.RecordBatch]:
    """Yield a query's rows in batches, so that memory stays constant."""
    for batch in cursor.sql(query).to_arrow_reader(BATCH):
        if batch.num_rows:
            yield batch


def _append(db: Store, table: str, columns: dict[str, Any]) -> None:
    with db.atomic() as writer:
        writer.register("new_rows", pa.table(columns))
        try:
            writer.execute(f"insert into {table} select * from new_rows")
        finally:
            writer.unregister("new_rows")


def _text(column: str) -> str:
    return f"array_to_string(list_transform({column}, lambda m: m.content), chr(10))"


def _components(one: NDArray[Any], other: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return each member of a connected component, and the smallest member of its component."""
    members, places = np.unique(np.concatenate((one, other)), return_inverse=True)
    left, right = places.reshape(2, -1)
    label = np.arange(len(members))
    while True:
        least = np.minimum(label[left], label[right])
        before = label.copy()
        np.minimum.at(label, left, least)
        np.minimum.at(label, right, least)
        label = label[label]
        if (label == before).all():
            return members, members[label]
