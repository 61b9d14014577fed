"""What the sources of a snapshot's rows may have of it."""

from __future__ import annotations

from store.datasets.members import CHANCE, drop
from store.datasets.snapshot_settings import SnapshotSettings
from store.db.database import Cursor
from store.db.rows import scalar


def mix_sources(cursor: Cursor, settings: SnapshotSettings, table: str) -> None:
    """Leave out what a source has above its share, on each side of the split.

    Sources of the highest share keep all rows; the others have at most their part of that number.
    """
    mix = settings.mix_of_rows
    most = max(mix.values())
    if all(share == most for share in mix.values()):
        return
    people = "select count(*) from members where not imported and seq not in (select seq from made_seqs)"
    if not scalar(cursor, people):
        return
    # shared: each row with its source's share relative to the highest; highest: how many rows the sources of the highest
    # share have, in train and in all; the rows of the others beyond their part of that are above their share.
    cursor.execute(
        f"""
        create or replace temp table above_share as
        with kinds as (
            select seq, content_hash, split, if(imported, 'import', source) as kind
            from members
            join (select seq, source from {table}) using (seq)
            where seq not in (select seq from made_seqs)
        ),
        shared as (
            select *, coalesce(($shares::double[])[list_position($kinds::varchar[], kind)], $most) / $most as share
            from kinds
        ),
        highest as (select count(*) filter (split = 'train') as train, count(*) as rows from shared where share = 1)
        select seq
        from shared, highest
        where share < 1 and rows > 0
        qualify row_number() over (partition by split, kind order by {CHANCE.format("content_hash")}, content_hash)
            > greatest(ceil(share * if(split = 'train', train, rows - train)), if(share > 0, 1, 0))
        """,
        {
            "shares": list(mix.values()),
            "kinds": list(mix),
            "most": most,
            "seed": str(settings.seed),
        },
    )
    drop(cursor, "above the share of its source (mix)", "seq in (from above_share)")
