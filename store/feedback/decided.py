"""Comparisons that people decided, with their verdict: what a judge is held against."""

from __future__ import annotations

from store.accounts import sharing
from store.db.database import Store
from store.db.rows import Row, check_limit, fetch_all


def list_decided(db: Store, deployment: str, limit: int = 100) -> list[Row]:
    """Return the newest decided comparisons of a deployment: id, prompt_hash, messages, a, b, verdict.

    The verdict is what most votes say: `a`, `b`, or `tie` where neither has more. Gold questions are left out, what
    is not shared with raters, of more than two answers or of several turns, and comparisons with tools or reasoning, of
    which a judge would read the texts alone.
    """
    # counted: the votes for either side; both candidates are joined by their side.
    return fetch_all(
        db.read(),
        f"""
        with counted as (
            select comparison_id,
                count(*) filter (choice = 'a') as for_a, count(*) filter (choice = 'b') as for_b
            from votes
            where places is null
            group by comparison_id
        )
        select comparisons.id, prompt_hash, messages, first.content as a, second.content as b,
            case when for_a > for_b then 'a' when for_b > for_a then 'b' else 'tie' end as verdict
        from comparisons
        join counted on comparison_id = comparisons.id
        join candidates as first on first.comparison_id = comparisons.id and first.side = 'a'
        join candidates as second on second.comparison_id = comparisons.id and second.side = 'b'
        where gold is null and state = 'decided' and deployment = $deployment
            and comparisons.carried is null and first.carried is null and second.carried is null
            and first.turns is null and second.turns is null
            and {sharing.all_agree("owners", "show", db.share)}
        order by seq desc
        limit $limit
        """,
        {"deployment": deployment, "limit": check_limit(limit)},
    )
