"""From rows to the members of a snapshot, as SQL over temporary tables of one long-lived read cursor.

Each step leaves a table `members (seq, content_hash, prompt_key, imported, weight, cluster, split)` and notes in
`dropped (reason, rows)` what it took away; `row_supporters (seq, person)` who supports a row. Chance is a hash of
seed and content, so a choice depends on these alone, not on the order of arrival, the DuckDB version or the number of
threads. A million rows are grouped by 64-bit keys; whole hashes are compared only among the rows whose keys agree,
which are few.
"""

from __future__ import annotations

from collections.abc import Mapping

from store.accounts import sharing
from store.datasets import made_members
from store.datasets.heldout_split import split, split_by_name
from store.datasets.members import CHANCE, drop, note
from store.datasets.scope import Scope
from store.datasets.snapshot_settings import SnapshotSettings
from store.datasets.source_mix import mix_sources
from store.db.database import Cursor
from store.db.excluded import EXCLUDED
from store.db.rows import fetch_one, scalar
from store.near_duplicates.index import PROMPT_KEY

WITHHELD = "whoever said it does not share it for training"
EXCLUDED_REASON = "excluded by an operator"
_TABLES = {"dpo": "pairs", "sft": "demonstrations", "kto": "likes"}


# One vote with a rewrite makes up to three pairs, which share the weight of one vote: `part`.
_SUPPORT = """
supporters as (
    select subject_id, kind, ref, person,
        1.0 / count(*) filter (subject_id like 'pair-%') over (partition by kind = 'like', ref) as part
    from evidence
    where kind <> 'made' or subject_id in (select id from made_seqs)
),
believed as (
    select subject_id, count(*) as supporters, avg(part) as part
    from supporters
    anti join withheld_evidence using (kind, ref)
    where person is null or person not in (select unnest($excluded::varchar[]))
    group by subject_id
)
"""

# The same two answers to prompts that are alike are one question, as those to the same prompt are.
_ALIKE_QUESTIONS = f"""
create or replace temp table alike_questions as
select seq, first_hash < last_hash as direction,
    'alike ' || hash(group_id, least(first_hash, last_hash), greatest(first_hash, last_hash)) as question
from (from row_sketches where noun = 'pairs')
join (
    select seq, {PROMPT_KEY} as prompt_key
    from pairs
    where deployment in (select unnest($scope::varchar[])) and seq <= $last_seq and carried is null
) using (seq)
join prompt_groups using (prompt_key)
"""

# `question` says, up to a collision of 64 bits, which rows answer the same question; collisions are sorted out below.
_SCOPED_PAIRS = f"""
create or replace temp table scoped as
with {_SUPPORT}
select seq, content_hash, hash(coalesce(alike_questions.question, versus_hash)) as question,
    hash(versus_hash) as versus, {PROMPT_KEY} as prompt_key, weight,
    coalesce(supporters, 0) + (import_id is not null)::int as supporters, supporters is null as imported,
    coalesce(part, 1) as part
from pairs
left join believed on believed.subject_id = pairs.id
left join alike_questions using (seq)
where deployment in (select unnest($scope::varchar[])) and seq <= $last_seq and id not in (from withheld_rows)
"""

# Votes for neither side of two, by question. Ties in an order of several lower no weight: `versus_hash` is of the first
# two drawn.
_TIED = """
create or replace temp table tied as
select versus_hash, count(*) as votes
from votes
join comparisons on comparisons.id = votes.comparison_id
where choice in ('tie', 'both_bad') and places is null and $ties = 'discount' and gold is null
    and rater not in (select unnest($excluded::varchar[]))
group by versus_hash
"""

# How sure the votes make us: with the posterior p = (for + 1) / (for + against + 2), 2 p - 1. Ties are for neither.
_CONFIDENCE = "({0}) / ({1} + 2)"

# Questions that several rows or a tie vote answer are weighed on whole hashes; every other row speaks for itself.
_PICK_PAIRS = f"""
create or replace temp table members as
with contested as (
    select question from scoped group by question having count(*) > 1
    union
    select question from scoped where versus in (select hash(versus_hash) from tied)
),
standing as (
    select scoped.content_hash, versus_hash, prompt_key, min(seq) as seq, max(scoped.weight) as weight,
        any_value(coalesce(alike_questions.question, versus_hash)) as question,
        coalesce(any_value(direction)::varchar, scoped.content_hash) as direction,
        sum(supporters) as supporters, avg(part) as part, bool_and(imported) as imported, count(*) as copies
    from scoped
    join (select seq, versus_hash from pairs) using (seq)
    left join alike_questions using (seq)
    where scoped.question in (from contested)
    group by scoped.content_hash, versus_hash, prompt_key
),
ties as (
    select standing.*,
        coalesce(tied.votes, 0) / count(*) over (partition by standing.versus_hash) as own_tied
    from standing
    left join tied using (versus_hash)
),
weighed as (
    select *, sum(supporters) over (partition by question, direction) as agreeing,
        sum(supporters) over (partition by question) as all_supporters,
        sum(own_tied) over (partition by question) as tied_votes
    from ties
)
select seq, content_hash, prompt_key, imported, 1 as copies, supporters, supporters as agreeing,
    supporters as all_supporters,
    weight as margin, weight * part * {_CONFIDENCE.format("supporters", "supporters")} as weight
from scoped
where question not in (from contested)
union all
select seq, content_hash, prompt_key, imported, copies, supporters, agreeing, all_supporters,
    weight * (2 * agreeing - all_supporters) / greatest(all_supporters + tied_votes, 1) as margin,
    weight * part * {_CONFIDENCE.format("2 * agreeing - all_supporters", "all_supporters + tied_votes")} as weight
from weighed
"""

# One row per content hash: its supporters are people and imports together; none is against a demonstration.
_PICK_DEMONSTRATIONS = f"""
create or replace temp table members as
with scoped as (
    select seq, id, content_hash, {PROMPT_KEY} as prompt_key, import_id
    from demonstrations
    where deployment in (select unnest($scope::varchar[])) and seq <= $last_seq and id not in (from withheld_rows)
),
{_SUPPORT}
select min(seq) as seq, content_hash, prompt_key, bool_and(supporters is null) as imported, count(*) as copies,
    sum(coalesce(supporters, 0) + (import_id is not null)::int) as supporters,
    sum(coalesce(supporters, 0) + (import_id is not null)::int) as agreeing,
    sum(coalesce(supporters, 0) + (import_id is not null)::int) as all_supporters,
    1.0::double as margin, 1.0::double as weight
from scoped
left join believed on believed.subject_id = scoped.id
group by content_hash, prompt_key
"""

# One row an answer and verdict; those who judged the same answer the other way lower its weight.
_PICK_LIKES = f"""
create or replace temp table members as
with standing as (
    select min(seq) as seq, content_hash, {PROMPT_KEY} as prompt_key, prompt, completion, carried,
        bool_and(user_name is null) as imported, count(*) as copies,
        count(*) filter (user_name is null or user_name not in (select unnest($excluded::varchar[]))) as supporters
    from likes
    where deployment in (select unnest($scope::varchar[])) and seq <= $last_seq and id not in (from withheld_rows)
    group by content_hash, prompt_hash, prompt, completion, carried
)
select seq, content_hash, prompt_key, imported, copies, supporters, supporters as agreeing,
    sum(supporters) over (partition by prompt, completion, carried) as all_supporters,
    (2 * supporters - all_supporters) / greatest(all_supporters, 1) as margin,
    {_CONFIDENCE.format("2 * supporters - all_supporters", "all_supporters")} as weight
from standing
"""

# A row of `members` may stand for several of the same content, of one deployment and of all.
_VOICES = """
create or replace temp table row_supporters as
with said as ({said})
select distinct members.seq, person
from said
join members using (content_hash)
where person not in (select unnest($excluded::varchar[]))
"""
_SAID = """
select content_hash, person
from evidence
join {table} on {table}.id = evidence.subject_id
where deployment in (select unnest($scope::varchar[])) and seq <= $last_seq
"""
_SAID_LIKES = """
select content_hash, user_name as person
from likes
where deployment in (select unnest($scope::varchar[])) and seq <= $last_seq
"""


def pick(
    cursor: Cursor,
    method: str,
    scope: Scope,
    last_seq: int,
    seen_seq: int,
    settings: SnapshotSettings,
    share: sharing.Share,
) -> None:
    """Fill `members` and `dropped`.

    `seen_seq` is the newest row that an earlier snapshot saw, `share` what people share who made no choice.
    """
    seed = str(settings.seed)
    cursor.execute("create or replace temp table dropped (reason varchar, rows bigint)")
    params: dict[str, object] = {
        "scope": list(scope.names),
        "last_seq": last_seq,
        "excluded": list(settings.exclude_raters),
    }
    _withhold(cursor, _TABLES[method], share, params)
    made_members.note(cursor, _TABLES[method])
    if method == "dpo":
        cursor.execute(_ALIKE_QUESTIONS, {name: params[name] for name in ("scope", "last_seq")})
        cursor.execute(_SCOPED_PAIRS, params)
        note(cursor, made_members.DECIDED, made_members.drop_decided(cursor))
        cursor.execute(_TIED, {"excluded": params["excluded"], "ties": settings.ties})
        cursor.execute(_PICK_PAIRS)
        said = _SAID.format(table="pairs")
    elif method == "sft":
        cursor.execute(_PICK_DEMONSTRATIONS, params)
        said = _SAID.format(table="demonstrations")
    else:
        cursor.execute(_PICK_LIKES, params)
        said = _SAID_LIKES
    cursor.execute(_VOICES.format(said=said), params)
    copies = scalar(cursor, "select coalesce(sum(copies - 1), 0) from members")
    note(cursor, "exact duplicate", copies)
    drop(cursor, "only excluded raters stand behind it", "supporters = 0")
    drop(cursor, "raters were divided", "2 * agreeing = all_supporters")
    drop(cursor, "outvoted", "2 * agreeing < all_supporters")
    drop(cursor, "agreement below min_weight", "margin < $min_weight", {"min_weight": settings.min_weight})
    # Answers that are alike may have been liked and disliked: then both say something.
    if settings.near_duplicates is not None and method != "kto":
        _drop_near(cursor)
    if settings.replay < 1:
        drop(
            cursor,
            "older row not replayed",
            f"seq <= $seen and {CHANCE.format('content_hash')} >= $replay",
            {"seen": seen_seq, "replay": settings.replay, "seed": seed},
        )
    for limit, rows, column, reason in (
        (settings.max_per_prompt, "members", "prompt_key", "above max_per_prompt"),
        # Whoever else stands behind a row that is one too many for one person: nobody has more than the limit.
        (settings.max_per_rater, "members join row_supporters using (seq)", "person", "above max_per_rater"),
    ):
        if limit is not None:
            ranked = f"""
                select seq
                from {rows}
                qualify row_number() over (
                    partition by {column} order by {CHANCE.format("content_hash")}, content_hash
                ) > $limit
                """
            drop(cursor, reason, f"seq in ({ranked})", {"limit": limit, "seed": seed})
    split(cursor, settings, _TABLES[method], params)
    if scope.trained is not None:
        split_by_name(cursor, _TABLES[method], scope.trained)
    drop(cursor, made_members.RESERVED, "split = 'reserved'")
    mix_sources(cursor, settings, _TABLES[method])
    made_members.bound(cursor, settings)
    drop(cursor, "no share for its source (mix)", made_members.unwanted(cursor))


def _withhold(cursor: Cursor, table: str, share: sharing.Share, scope: Mapping[str, object]) -> None:
    """Fill `withheld_rows` and `withheld_evidence`: what holds words that are not shared for training."""
    rows, evidence = sharing.withheld_rows(table, share), sharing.withheld_evidence(share)
    none = " limit 0" if sharing.everybody_agrees(cursor, "train", share) else ""
    cursor.execute(
        f"create or replace temp table withheld_rows as (select id from ({rows}){none}) union {EXCLUDED}"
    )
    cursor.execute(
        f"create or replace temp table withheld_evidence as select kind, ref from ({evidence}){none}"
    )
    count = f"""
        select count(*) filter (id in ({EXCLUDED})) as excluded, count(*) filter (id not in ({EXCLUDED})) as withheld
        from {table}
        where deployment in (select unnest($scope::varchar[])) and seq <= $last_seq and id in (from withheld_rows)
        """
    counts = fetch_one(cursor, count, {name: scope[name] for name in ("scope", "last_seq")})
    if counts["excluded"]:
        note(cursor, EXCLUDED_REASON, int(counts["excluded"]))
    if not none:
        note(cursor, WITHHELD, int(counts["withheld"]))


def _drop_near(cursor: Cursor) -> None:
    """Leave one row of each group of near-duplicate rows: the one with most votes, else with the smallest hash."""
    drop(
        cursor,
        "near duplicate of another row",
        """
        seq in (
            select seq
            from members
            join row_groups using (seq)
            qualify row_number() over (
                partition by group_id order by supporters desc, seq in (select seq from made_seqs), content_hash
            ) > 1
        )
        """,
    )
