"""Which members of a snapshot are held out: the table `members` gets their cluster and split."""

from __future__ import annotations

from collections.abc import Mapping

from store.datasets import made_members
from store.datasets.snapshot_settings import SnapshotSettings
from store.db.database import Cursor
from store.near_duplicates.index import PROMPT_KEY

# MurmurHash3's 32-bit finalizer of a prompt's key and the seed, at a fiftieth of what MD5 costs: the key is a part of a
# SHA-256 already, only the seed has to be mixed in.
_CHANCES = """
salted as (select *, xor(prompt_key >> 32, $salt::ubigint) as x from {0}),
stirred as (select * replace ((xor(x, x >> 16) * 2246822507) & 4294967295 as x) from salted),
twice as (select * replace ((xor(x, x >> 13) * 3266489909) & 4294967295 as x) from stirred),
chances as (select * exclude (x), xor(x, x >> 16) / 4294967296.0 as chance from twice)
"""


def split(cursor: Cursor, settings: SnapshotSettings, table: str, scope: Mapping[str, object]) -> None:
    """Hold out clusters by chance; of people's rows and of imports at least one, and never all, where there are more.

    A cluster is a conversation from its first user message on, with those that begin alike. Its chance is the greatest
    of its roots': a turn changes nothing, and a root that joins can only bring it from held-out to train, so that
    what has been trained on is not held out later. For the same reason the share that is held out falls as rows
    arrive, and a cluster of people's and imported rows takes the lesser of the two shares.
    """
    # rows: every prompt with where it came from; placed: its cluster; sizes: the share of people's and of imported
    # clusters, so many that `$clusters` are held out; then the lesser share of each cluster.
    shares = """
        create or replace temp table shares as
        with rows as (
            select distinct {key} as prompt_key, import_id is not null as imported
            from {table}
            where deployment in (select unnest($scope::varchar[])) and seq <= $last_seq
                and seq not in (select seq from made_seqs)
        ),
        placed as (
            select coalesce(group_id, prompt_key) as cluster, imported from rows left join clusters using (prompt_key)
        ),
        sizes as (
            select imported,
                greatest($fraction, least($clusters / count(distinct cluster), greatest($fraction, {most}))) as share
            from placed
            group by imported
        )
        select cluster, min(share) as share, bool_or(imported) as imported
        from placed
        join sizes using (imported)
        group by cluster
        """
    cursor.execute(
        shares.format(key=PROMPT_KEY, table=table, most=made_members.MAX_HELDOUT),
        {
            "scope": scope["scope"],
            "last_seq": scope["last_seq"],
            "fraction": settings.heldout_fraction,
            "clusters": settings.heldout_clusters,
        },
    )
    salt = made_members.salt_of(settings.seed)
    cursor.execute(
        f"""
        create or replace temp table group_chances as
        with {_CHANCES.format("(from clusters anti join turned using (prompt_key))")}
        select group_id, max(chance) as greatest from chances group by group_id
        """,
        {"salt": salt},
    )
    # shared: each row with the greatest chance of its cluster; bounds: the extremes among people's and imported rows, so
    # that at least one row is held out and never all. Made rows are in train, or in no split where they may not be.
    cursor.execute(
        f"""
        create or replace temp table members as
        with {_CHANCES.format("members")},
        shared as (
            select * replace (coalesce(greatest, chance) as chance), coalesce(group_id, prompt_key) as cluster
            from chances
            left join clusters using (prompt_key)
            left join group_chances using (group_id)
        ),
        placed as (select shared.*, share, shares.imported as beside_imports from shared left join shares using (cluster)),
        bounds as (
            select beside_imports, min(chance) as least, max(chance) as most
            from placed
            where seq not in (select seq from made_seqs)
            group by beside_imports
        )
        select seq, content_hash, prompt_key, weight, imported, cluster,
            case
                when seq in (select seq from made_seqs) then if(chance < $reserve or chance = least, 'reserved', 'train')
                when $fraction > 0 and chance < most and (chance < share or chance = least) then 'heldout'
                else 'train'
            end as split
        from placed
        left join bounds using (beside_imports)
        """,
        {
            "fraction": settings.heldout_fraction,
            "salt": salt,
            "reserve": made_members.reserve(settings),
        },
    )


def split_by_name(cursor: Cursor, table: str, trained: str) -> None:
    """Train on the members whose text is in a row of `trained`, and hold out all others."""
    cursor.execute(
        f"""
        update members
        set split = if(content_hash in (select content_hash from {table} where deployment = $trained), 'train', 'heldout')
        """,
        {"trained": trained},
    )
