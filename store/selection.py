"""From rows to the members of a snapshot, as SQL over temporary tables of one long-lived read cursor.

Each step leaves a table `members (seq, id, content_hash, prompt_hash, person, weight, split)` and notes in
`dropped (reason, rows)` what it took away. Chance is MD5 of seed and hash, so a choice depends on content and
seed alone, not on the order of arrival, the DuckDB version or the number of threads.
"""

from __future__ import annotations

from store.database import Cursor
from store.rows import scalar
from store.snapshot_settings import SnapshotSettings

# A number from 0 to 1 that seed and hash decide.
_CHANCE = "(md5_number_lower($seed || ':' || {0}) / 18446744073709551616.0)"

_PICK_PAIRS = """
create or replace temp table members as
with scoped as (
    select seq, id, content_hash, versus_hash, prompt_hash, weight, import_id
    from pairs
    where deployment in ('', $deployment) and seq <= $last_seq
),
believed as (
    select subject_id, count(*) as voices, min(person) as person
    from evidence
    where person is null or person not in (select unnest($excluded::varchar[]))
    group by subject_id
),
standing as (
    select content_hash, versus_hash, prompt_hash, min(seq) as seq, arg_min(id, seq) as id, max(weight) as
    weight,
        min(person) as person, sum(coalesce(voices, 0) + (import_id is not null)::int) as voices,
        count(*) as copies
    from scoped
    left join believed on believed.subject_id = scoped.id
    group by content_hash, versus_hash, prompt_hash
),
tied as (
    select versus_hash, count(*) as voices
    from votes
    join comparisons on comparisons.id = votes.comparison_id
    where choice in ('tie', 'both_bad') and $ties = 'discount' and gold is null
        and rater not in (select unnest($excluded::varchar[]))
    group by versus_hash
),
weighed as (
    select standing.*, sum(standing.voices) over (partition by versus_hash) as all_voices,
        coalesce(tied.voices, 0) as tied_voices
    from standing
    left join tied using (versus_hash)
)
select seq, id, content_hash, prompt_hash, person, copies, voices, all_voices,
    weight * (2 * voices - all_voices) / greatest(all_voices + tied_voices, 1) as weight
from weighed
"""

_PICK_DEMONSTRATIONS = """
create or replace temp table members as
with scoped as (
    select seq, id, content_hash, prompt_hash, import_id
    from demonstrations
    where deployment in ('', $deployment) and seq <= $last_seq
),
believed as (
    select subject_id, count(*) as voices, min(person) as person
    from evidence
    where person is null or person not in (select unnest($excluded::varchar[]))
    group by subject_id
)
select min(seq) as seq, arg_min(id, seq) as id, content_hash, prompt_hash, min(person) as person,
    count(*) as copies, sum(coalesce(voices, 0) + (import_id is not null)::int) as voices,
    sum(coalesce(voices, 0) + (import_id is not null)::int) as all_voices, 1.0::double as weight
from scoped
left join believed on believed.subject_id = scoped.id
group by content_hash, prompt_hash
"""

# One row an answer and verdict; those who judged the same answer the other way lower its weight.
_PICK_LIKES = """
create or replace temp table members as
with standing as (
    select min(seq) as seq, arg_min(id, seq) as id, content_hash, prompt_hash, prompt, completion,
        min(user_name) as person, count(*) as copies,
        count(*) filter (user_name is null or user_name not in (select unnest($excluded::varchar[]))) as voices
    from likes
    where deployment in ('', $deployment) and seq <= $last_seq
    group by content_hash, prompt_hash, prompt, completion
)
select seq, id, content_hash, prompt_hash, person, copies, voices,
    sum(voices) over (partition by prompt, completion) as all_voices,
    (2 * voices - sum(voices) over (partition by prompt, completion))
        / greatest(sum(voices) over (partition by prompt, completion), 1) as weight
from standing
"""


def pick(
    cursor: Cursor, method: str, deployment: str, last_seq: int, seen_seq: int, settings: SnapshotSettings
) -> None:
    """Fill `members` and `dropped`; `seen_seq` is the newest row that an earlier snapshot saw."""
    seed = str(settings.seed)
    cursor.execute("create or replace temp table dropped (reason varchar, rows bigint)")
    params: dict[str, object] = {
        "deployment": deployment,
        "last_seq": last_seq,
        "excluded": list(settings.exclude_raters),
    }
    if method == "dpo":
        cursor.execute(_PICK_PAIRS, params | {"ties": settings.ties})
    else:
        cursor.execute(_PICK_DEMONSTRATIONS if method == "sft" else _PICK_LIKES, params)
    copies = scalar(cursor, "select coalesce(sum(copies - 1), 0) from members")
    _note(cursor, "exact duplicate", copies)
    _drop(cursor, "only excluded raters stand behind it", "voices = 0")
    _drop(cursor, "raters were divided", "2 * voices = all_voices")
    _drop(cursor, "outvoted", "2 * voices < all_voices")
    _drop(cursor, "agreement below min_weight", "weight < $min_weight", {"min_weight": settings.min_weight})
    # Answers that are alike may have been liked and disliked: then both say something.
    if settings.near_duplicates is not None and method != "kto":
        _drop_near(cursor)
    if settings.replay < 1:
        _drop(
            cursor,
            "older row not replayed",
            f"seq <= $seen and {_CHANCE.format('content_hash')} >= $replay",
            {"seen": seen_seq, "replay": settings.replay, "seed": seed},
        )
    for limit, column, reason in (
        (settings.max_per_prompt, "prompt_hash", "above max_per_prompt"),
        (settings.max_per_rater, "person", "above max_per_rater"),
    ):
        if limit is not None:
            ranked = f"""
                select seq from members where {column} is not null
                qualify row_number() over (
                    partition by {column} order by {_CHANCE.format("content_hash")}, content_hash
                ) > $limit
                """
            _drop(cursor, reason, f"seq in ({ranked})", {"limit": limit, "seed": seed})
    _split(cursor, settings)


def _drop_near(cursor: Cursor) -> None:
    """Leave one row of each group of near-duplicate rows: the one with the smallest hash."""
    _drop(
        cursor,
        "near duplicate of another row",
        """
        seq in (
            select seq
            from members
            join row_groups using (id)
            qualify row_number() over (partition by group_id order by content_hash) > 1
        )
        """,
    )


def _split(cursor: Cursor, settings: SnapshotSettings) -> None:
    """Hold out prompts by chance; at least one, and never all, where there are two or more."""
    cursor.execute(
        f"""
        create or replace temp table sides as
        with prompts as (
            select distinct prompt_hash, coalesce(prompt_groups.group_id, prompt_hash) as side_key
            from members
            left join prompt_groups using (prompt_hash)
        ),
        keys as (
            select distinct side_key, {_CHANCE.format("side_key")} as chance from prompts
        ),
        placed as (
            select side_key, chance < $fraction as held,
                row_number() over (order by chance, side_key) as place, count(*) over () as n
            from keys
        )
        select prompt_hash,
            case when $fraction > 0 and n > 1 and place < n and (held or place = 1) then 'heldout'
            else 'train' end as split
        from prompts
        join placed using (side_key)
        """,
        {"fraction": settings.heldout_fraction, "seed": str(settings.seed)},
    )
    cursor.execute(
        """
        create or replace temp table members as
        select seq, id, content_hash, prompt_hash, person, weight, split
        from members
        join sides using (prompt_hash)
        """
    )


def _drop(cursor: Cursor, reason: str, condition: str, params: dict[str, object] | None = None) -> None:
    cursor.execute(f"delete from members where {condition} returning 1", params or {})
    _note(cursor, reason, len(cursor.fetchall()))


def _note(cursor: Cursor, reason: str, rows: int) -> None:
    if rows:
        cursor.execute("insert into dropped values (?, ?)", [reason, rows])
