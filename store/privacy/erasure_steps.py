"""The statements of an erasure: `collect` notes in temporary tables what is theirs, the others change and delete.

Each runs within the transaction of `store.privacy.erasure`, after `collect` or `collect_conversations`. `their_names`,
`askers`, `their_keys`, `their_completions`, `their_conversations`, `their_prompts`, `their_comparisons`, `their_made_rows`
and `voted_comparisons` are its tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from store.db.database import Cursor
from store.db.rows import dumps, fetch_all, loads
from store.privacy import prompt_ownership, quotations

# Every column that names a person and whose row stays.
NAMED = (
    ("audit", "actor"), ("audit", "subject"), ("runs", "requested_by"), ("releases", "created_by"),
    ("evaluations", "requested_by"), ("adapters", "created_by"), ("imports", "imported_by"),
    ("deployment_history", "actor"), ("comparisons", "asked_by"), ("keys", "name"), ("jobs", "requested_by"),
    ("uploaded_files", "created_by"), ("row_reviews", "actor"), ("saved_views", "created_by"),
)  # fmt: skip

THEIR_OWNERS = "select 'user ' || name from their_names union select 'key ' || id from their_keys"

OF_OTHERS = {
    "votes": """
        select count(*)
        from votes
        where rater not in (from askers) and comparison_id in (select id from their_comparisons)
        """,
    "likes": """
        select count(*)
        from likes
        where coalesce(user_name not in (from askers), true)
            and (
                completion_id in (select id from their_completions)
                or vote_id in (select id from votes where comparison_id in (select id from their_comparisons))
            )
        """,
    "completions": "select count(*) from quoting_completions",
}


_HOLDS_THEIRS = f"""
    list_has_any(coalesce(owners, []), (select coalesce(list(owner), []) from ({THEIR_OWNERS}) as theirs (owner)))
    """
"""Whether a column `owners` names them."""


def collect(cursor: Cursor, who: list[str], suggested: Iterable[str]) -> None:
    """Note which names, keys, turns, prompts and comparisons are theirs, before anything goes."""
    _collect_names(cursor, who, who)
    cursor.execute(
        """
        create or replace temp table their_keys as
        select id from keys where user_name is null and name in (from their_names)
        """
    )
    for table in ("completions", "conversations"):
        cursor.execute(
            f"""
            create or replace temp table their_{table} as
            select id
            from {table}
            where user_name in (from their_names) or (user_name is null and key_id in (select id from their_keys))
            """
        )
    _collect_what_follows(cursor, suggested)


def collect_conversations(
    cursor: Cursor, ids: list[str], askers: list[str], suggested: Iterable[str]
) -> None:
    """Note the turns of conversations, with their prompts and comparisons, in the place of those of a person.

    `askers` are the names that their owners ask for comparisons under.
    """
    _collect_names(cursor, [], askers)
    cursor.execute("create or replace temp table their_keys as select id from keys where false")
    cursor.execute(
        "create or replace temp table their_conversations as select unnest($ids::varchar[]) as id",
        {"ids": ids},
    )
    cursor.execute(
        """
        create or replace temp table their_completions as
        select id from completions where conversation_id in (from their_conversations)
        """
    )
    _collect_what_follows(cursor, suggested)


def _collect_names(cursor: Cursor, who: list[str], askers: list[str]) -> None:
    for table, names in (("their_names", who), ("askers", askers)):
        cursor.execute(
            f"create or replace temp table {table} as select unnest($names::varchar[]) as name",
            {"names": names},
        )


def _collect_what_follows(cursor: Cursor, suggested: Iterable[str]) -> None:
    """Note the prompts and comparisons of the names, turns and conversations that are noted."""
    quotations.collect(cursor)
    own = prompt_ownership.own_prompts(cursor, suggested)
    cursor.execute(
        "create or replace temp table their_prompts as select unnest($hashes::varchar[]) as prompt_hash",
        {"hashes": own},
    )
    cursor.execute("insert into their_completions select id from quoting_completions")
    cursor.execute(
        """
        create or replace temp table their_comparisons as
        select id
        from comparisons
        where prompt_hash in (from their_prompts)
            or (
                asked_by in (from their_names)
                and not exists (
                    from votes where comparison_id = comparisons.id and rater not in (from their_names)
                )
            )
        """
    )
    cursor.execute(
        f"""
        create or replace temp table their_made_rows as
        select id from made_rows where prompt_hash in (from their_prompts) or {_HOLDS_THEIRS}
        """
    )
    cursor.execute(
        """
        create or replace temp table voted_comparisons as
        select distinct comparison_id as id from votes where rater in (from their_names)
        """
    )


def keys_of_nobody(cursor: Cursor) -> list[str]:
    """Return the ids of the keys that bear the name and speak for nobody else; after `collect`."""
    return [str(row["id"]) for row in fetch_all(cursor, "select id from their_keys")]


def reopen(cursor: Cursor) -> None:
    """Count again the votes of the comparisons that lost one; those that have too few now wait for more."""
    cursor.execute(
        """
        update comparisons
        set votes_given = given,
            state = case when state = 'decided' and given < votes_wanted then 'open' else state end,
            decided_at = case when given < votes_wanted then null else decided_at end
        from (
            select id as voted, (select count(*) from votes where comparison_id = voted_comparisons.id) as given
            from voted_comparisons
        )
        where id = voted
        """
    )


def rename(cursor: Cursor, who: list[str], pseudonym: str) -> int:
    """Put the pseudonym in the place of the name where the row stays; return how many rows that were."""
    count = 0
    for table, column in NAMED:
        spare = " and user_name is null" if table == "keys" else ""
        count += _changed(
            cursor,
            f"update {table} set {column} = $pseudonym where {column} in (from their_names){spare}",
            {"pseudonym": pseudonym},
        )
    count += _changed(
        cursor,
        f"""
        update comparisons
        set owners = list_transform(
            comparisons.owners, lambda o: if(list_contains(their.owners, o), 'user ' || $pseudonym, o)
        )
        from (select coalesce(list(owner), []) as owners from ({THEIR_OWNERS}) as theirs (owner)) as their
        where list_has_any(comparisons.owners, their.owners)
        """,
        {"pseudonym": pseudonym},
    )
    cursor.execute(
        "update candidates set completion_id = null where completion_id in (from their_completions)"
    )
    for row in fetch_all(
        cursor,
        "select id, settings from snapshots where list_has_any((settings->>'$.exclude_raters[*]'), $names::varchar[])",
        {"names": who},
    ):
        settings = loads(row["settings"])
        settings["exclude_raters"] = [pseudonym if one in who else one for one in settings["exclude_raters"]]
        count += _changed(
            cursor,
            "update snapshots set settings = $settings where id = $id",
            {"settings": dumps(settings, "settings"), "id": row["id"]},
        )
    return count


def delete_words(cursor: Cursor, removed: dict[str, int]) -> None:
    """Delete what they said, asked, voted and liked, and what quotes it; count it in `removed`."""
    cursor.execute(
        """
        create or replace temp table tagged as
        select distinct subject_id as id
        from evidence
        where ref in (select id from votes where rater in (from their_names))
        """
    )
    for what, condition in (
        (
            "evidence",
            """
            person in (from their_names)
            or ref in (select id from their_completions)
            or ref in (select id from votes where rater in (from their_names))
            or ref in (select id from votes where comparison_id in (select id from their_comparisons))
            or ref in (select id from their_made_rows)
            """,
        ),
        ("votes", "rater in (from their_names) or comparison_id in (select id from their_comparisons)"),
        (
            "undone_votes",
            "rater in (from their_names) or comparison_id in (select id from their_comparisons)",
        ),
        ("skips", "rater in (from their_names) or comparison_id in (select id from their_comparisons)"),
        ("candidates", "comparison_id in (select id from their_comparisons)"),
        ("comparisons", "id in (select id from their_comparisons)"),
        (
            "likes",
            """
            user_name in (from their_names)
            or completion_id in (select id from their_completions)
            or (vote_id is not null and vote_id not in (select id from votes))
            """,
        ),
        (
            "ratings",
            "user_name in (from their_names) or completion_id in (select id from their_completions)",
        ),
        ("completions", "id in (select id from their_completions)"),
        ("conversation_links", "conversation_id in (select id from their_conversations)"),
        ("messages", "conversation_id in (select id from their_conversations)"),
        ("conversations", "id in (select id from their_conversations)"),
    ):
        delete(cursor, removed, what, f"delete from {what} where {condition}")
    for what, count in quotations.prune(cursor).items():
        removed[what] += count
    cursor.execute("delete from conversation_links where message_id not in (select id from messages)")


def tagged(cursor: Cursor) -> list[str]:
    """Return the ids of the rows that a vote of theirs supported; after `delete_words`."""
    return [str(row["id"]) for row in fetch_all(cursor, "select id from tagged")]


def delete_rows(cursor: Cursor, removed: dict[str, int]) -> list[str]:
    """Delete the pairs and demonstrations without remaining evidence; return their ids."""
    gone: list[str] = []
    for table in ("pairs", "demonstrations"):
        cursor.execute(
            f"""
            delete from {table}
            where import_id is null and (
                prompt_hash in (from their_prompts)
                or not exists (from evidence where subject_id = {table}.id)
            )
            returning id
            """
        )
        ids = [str(row[0]) for row in cursor.fetchall()]
        removed[table] = len(ids)
        gone += ids
        # A row has the tags of the first vote for it; where that was theirs, it gets those of the next.
        cursor.execute(
            f"""
            update {table}
            set tags = coalesce(
                (
                    select arg_min(votes.tags, votes.id)
                    from evidence
                    join votes on votes.id = evidence.ref
                    where subject_id = {table}.id
                ),
                []
            )
            where import_id is null and id in (from tagged)
            """
        )
    if gone:
        cursor.execute("delete from evidence where subject_id in (select unnest($gone))", {"gone": gone})
    cursor.execute("delete from made_rows where id not in (select ref from evidence where kind = 'made')")
    return sorted(gone)


def delete_job_parts(cursor: Cursor, removed: dict[str, int]) -> tuple[list[str], list[str]]:
    """Delete the parts of jobs that hold their prompts; return the ids of these jobs, and those of the parts in items."""
    cursor.execute(
        f"""
        delete from job_parts
        where prompt_hash in (from their_prompts) or {_HOLDS_THEIRS}
        returning job, key
        """
    )
    parts = [(str(job), str(key)) for job, key in cursor.fetchall()]
    removed["job_parts"] = len(parts)
    return sorted({job for job, _ in parts}), [f"{job}/{key}" for job, key in parts]


def delete_usage(cursor: Cursor, pseudonym: str, removed: dict[str, int]) -> None:
    """Delete what they used; what was used with their keys stays as a sum, since these are about to go by id."""
    delete(
        cursor,
        removed,
        "usage",
        "delete from usage where holder in (select 'user ' || name from their_names)",
    )
    cursor.execute(
        """
        update usage set name = $pseudonym
        where name in (from their_names) or holder in (select id from keys where user_name in (from their_names))
        """,
        {"pseudonym": pseudonym},
    )


def delete(
    cursor: Cursor, removed: dict[str, int], what: str, sql: str, params: dict[str, Any] | None = None
) -> None:
    """Run a statement that deletes rows and count them in `removed` as `what`."""
    removed[what] = _changed(cursor, sql, params or {})


def _changed(cursor: Cursor, sql: str, params: dict[str, Any]) -> int:
    """Run a statement that changes rows and return how many it changed."""
    cursor.execute(sql, params)
    row = cursor.fetchone()
    return int(row[0]) if row else 0
